printf 1 > 'with blank'
printf 2 > größe-日本
printf 3 > "$(printf 'new\nline')"
printf 4 > -dash
printf 5 > '*star[1]'
printf 6 > 'back\slash'
printf 7 > "$(printf 'n%.0s' $(seq 255))"
