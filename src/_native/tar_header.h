/* Tar headers: numbers, checksums, PAX records. Pure functions over bytes that may be hostile; what is wrong comes back as a text.
 * Sources: POSIX.1-2017 pax, "Extended Header" and "ustar Interchange Format"; GNU tar manual, "Basic Tar Format"; libarchive's tar(5). */
#ifndef PYBUILD_TAR_HEADER_H
#define PYBUILD_TAR_HEADER_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define TAR_META_LIMIT (1u << 20)   /* bytes of one extended header */
#define TAR_XATTR_LIMIT 256         /* extended attributes of one entry */
#define TAR_TIME_LIMIT 9223372036LL /* seconds that fit into 64 bits of nanoseconds */

enum { PAX_PATH = 1, PAX_LINK = 2, PAX_SIZE = 4, PAX_UID = 8, PAX_GID = 16, PAX_MTIME = 32 };

typedef struct {
    unsigned have;
    char *path, *link; /* malloc'ed, NUL-terminated */
    size_t path_len, link_len;
    int64_t size, mtime_ns;
    uint32_t uid, gid;
    char *xattrs; /* packed as in entries.pxd, sorted by name */
    size_t xattr_len, xattr_cap;
    unsigned xattr_count;
} PaxFields;

static inline void pax_clear(PaxFields *f) {
    free(f->path);
    free(f->link);
    free(f->xattrs);
    memset(f, 0, sizeof *f);
}

/* Octal with blanks around it, or base-256 (two's complement, top bit set). -1 when it is neither or does not fit. */
static inline int tar_number(const unsigned char *p, size_t n, int64_t *out) {
    if (p[0] & 0x80) {
        int negative = p[0] & 0x40;
        uint64_t v = negative ? ~0ULL : 0;
        for (size_t i = 0; i < n; i++) {
            unsigned char b = p[i];
            if (i == 0) b = negative ? (unsigned char)(b | 0x80) : (unsigned char)(b & 0x7f);
            if ((v >> 55) != (negative ? 0x1ffULL : 0)) return -1;
            v = v << 8 | b;
        }
        *out = (int64_t)v;
        return 0;
    }
    size_t i = 0;
    uint64_t v = 0;
    while (i < n && (p[i] == ' ' || p[i] == 0)) i++;
    for (; i < n && p[i] >= '0' && p[i] <= '7'; i++) {
        if (v >> 60) return -1;
        v = v << 3 | (uint64_t)(p[i] - '0');
    }
    for (; i < n; i++)
        if (p[i] != ' ' && p[i] != 0) return -1;
    *out = (int64_t)v;
    return 0;
}

static inline int tar_is_zero(const unsigned char *p) {
    uint64_t w, any = 0;
    for (int i = 0; i < 512; i += 8) {
        memcpy(&w, p + i, 8);
        any |= w;
    }
    return any == 0;
}

/* The sum of all bytes with the sum's own field as blanks; old tars added signed bytes. */
static inline int tar_checksum_ok(const unsigned char *p) {
    int64_t stored, plain = 8 * ' ', with_sign = 8 * ' ';
    if (tar_number(p + 148, 8, &stored)) return 0;
    for (int i = 0; i < 512; i++)
        if (i < 148 || i >= 156) {
            plain += p[i];
            with_sign += (signed char)p[i];
        }
    return stored == plain || stored == with_sign;
}

static inline size_t tar_text(const unsigned char *p, size_t n) {
    const void *end = memchr(p, 0, n);
    return end ? (size_t)((const unsigned char *)end - p) : n;
}

/* A whole decimal number; -1 for anything else, or one past `limit`. */
static inline int pax_number(const char *p, size_t n, uint64_t limit, uint64_t *out) {
    uint64_t v = 0;
    if (!n || n > 20) return -1;
    for (size_t i = 0; i < n; i++) {
        if (p[i] < '0' || p[i] > '9') return -1;
        uint64_t d = (uint64_t)(p[i] - '0');
        if (v > (limit - d) / 10) return -1;
        v = v * 10 + d;
    }
    *out = v;
    return 0;
}

/* "[-]seconds[.fraction]"; digits past the nanosecond are cut. A time that does not fit is the epoch, as in other unpackers. */
static inline int pax_time(const char *p, size_t n, int64_t *out) {
    int negative = n && p[0] == '-';
    uint64_t seconds, fraction = 0, scale = 100000000;
    if (negative) p++, n--;
    const char *dot = memchr(p, '.', n);
    size_t whole = dot ? (size_t)(dot - p) : n;
    if (whole > 18) return -1;
    if (pax_number(p, whole, UINT64_MAX, &seconds)) return -1;
    if (dot)
        for (size_t i = whole + 1; i < n; i++) {
            if (p[i] < '0' || p[i] > '9') return -1;
            fraction += (uint64_t)(p[i] - '0') * scale;
            scale /= 10;
        }
    if (seconds >= TAR_TIME_LIMIT) {
        *out = 0;
        return 0;
    }
    int64_t ns = (int64_t)(seconds * 1000000000ULL + fraction);
    *out = negative ? -ns : ns;
    return 0;
}

/* Put one attribute in its place among the packed ones; the same name is replaced. */
static inline const char *pax_xattr(PaxFields *f, const char *name, size_t nlen, const char *value, size_t vlen, int replace) {
    size_t at = 0;
    if (!nlen || nlen > 255 || memchr(name, 0, nlen)) return "an extended attribute without a usable name";
    while (at < f->xattr_len) {
        uint16_t n;
        uint32_t v;
        memcpy(&n, f->xattrs + at, 2);
        memcpy(&v, f->xattrs + at + 2 + n, 4);
        size_t item = 2u + n + 4u + v;
        size_t shorter = n < nlen ? n : nlen;
        int c = memcmp(f->xattrs + at + 2, name, shorter);
        if (!c) c = (n > nlen) - (n < nlen);
        if (!c) {
            if (!replace) return NULL;
            memmove(f->xattrs + at, f->xattrs + at + item, f->xattr_len - at - item);
            f->xattr_len -= item;
            f->xattr_count--;
            break;
        }
        if (c > 0) break;
        at += item;
    }
    size_t item = 2 + nlen + 4 + vlen;
    if (f->xattr_count >= TAR_XATTR_LIMIT) return "too many extended attributes";
    if (f->xattr_len + item > f->xattr_cap) {
        size_t cap = f->xattr_cap * 2 + item;
        char *grown = realloc(f->xattrs, cap);
        if (!grown) return "out of memory";
        f->xattrs = grown;
        f->xattr_cap = cap;
    }
    char *to = f->xattrs + at;
    uint16_t n16 = (uint16_t)nlen;
    uint32_t v32 = (uint32_t)vlen;
    memmove(to + item, to, f->xattr_len - at);
    memcpy(to, &n16, 2);
    memcpy(to + 2, name, nlen);
    memcpy(to + 2 + nlen, &v32, 4);
    memcpy(to + 6 + nlen, value, vlen);
    f->xattr_len += item;
    f->xattr_count++;
    return NULL;
}

static inline int hex_digit(int c) {
    if (c >= '0' && c <= '9') return c - '0';
    c |= 32;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* libarchive's form: the name percent-encoded, the value in base64 without its padding. */
static inline const char *pax_libarchive_xattr(PaxFields *f, const char *key, size_t klen, const char *value, size_t vlen) {
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char name[256];
    size_t n = 0, out = 0;
    uint32_t bits = 0;
    int have = 0;
    for (size_t i = 0; i < klen; i++) {
        if (n >= 255) return "an extended attribute without a usable name";
        if (key[i] == '%' && i + 2 < klen && hex_digit(key[i + 1]) >= 0 && hex_digit(key[i + 2]) >= 0) {
            name[n++] = (char)(hex_digit(key[i + 1]) << 4 | hex_digit(key[i + 2]));
            i += 2;
        } else {
            name[n++] = key[i];
        }
    }
    char *plain = malloc(vlen + 1);
    if (!plain) return "out of memory";
    const char *error = NULL;
    for (size_t i = 0; i < vlen && value[i] != '='; i++) {
        const char *at = value[i] ? strchr(alphabet, value[i]) : NULL;
        if (!at) {
            error = "an extended attribute that is not base64";
            break;
        }
        bits = bits << 6 | (uint32_t)(at - alphabet);
        if ((have += 6) >= 8) plain[out++] = (char)(bits >> (have -= 8));
    }
    if (!error) error = pax_xattr(f, name, n, plain, out, 0);
    free(plain);
    return error;
}

static inline const char *pax_string(char **to, size_t *to_len, const char *value, size_t n) {
    if (memchr(value, 0, n)) return "a NUL byte in a path";
    char *copy = malloc(n + 1);
    if (!copy) return "out of memory";
    memcpy(copy, value, n);
    copy[n] = 0;
    free(*to);
    *to = copy;
    *to_len = n;
    return NULL;
}

#define PAX_IS(text) (klen == sizeof(text) - 1 && !memcmp(key, text, sizeof(text) - 1))
#define PAX_BEGINS(text) (klen > sizeof(text) - 1 && !memcmp(key, text, sizeof(text) - 1))

/* The records of one extended header. A global one may set owners, times and attributes; a path, link or size for every entry to come is
 * refused: readers differ about it, and no archive that means well has it. NULL, or what is wrong. */
static inline const char *pax_parse(PaxFields *f, const char *p, size_t n, int global) {
    const char *error = NULL;
    while (n && !error) {
        size_t digits = 0;
        uint64_t length, number = 0;
        while (digits < n && p[digits] >= '0' && p[digits] <= '9') digits++;
        if (digits == n || p[digits] != ' ' || pax_number(p, digits, TAR_META_LIMIT, &length)) return "a malformed PAX record";
        if (length > n || length < digits + 3 || p[length - 1] != '\n') return "a malformed PAX record";
        const char *key = p + digits + 1;
        const char *equals = memchr(key, '=', length - digits - 2);
        if (!equals || equals == key) return "a malformed PAX record";
        size_t klen = (size_t)(equals - key);
        const char *value = equals + 1;
        size_t vlen = length - (size_t)(value - p) - 1;
        if (PAX_IS("path") || PAX_IS("linkpath") || PAX_IS("size")) {
            if (global) return "a path or size in a global PAX header";
            unsigned bit = key[0] == 'p' ? PAX_PATH : key[0] == 'l' ? PAX_LINK : PAX_SIZE;
            f->have &= ~bit;
            if (vlen) {
                f->have |= bit;
                if (bit == PAX_PATH) error = pax_string(&f->path, &f->path_len, value, vlen);
                else if (bit == PAX_LINK) error = pax_string(&f->link, &f->link_len, value, vlen);
                else if (pax_number(value, vlen, INT64_MAX - 1024, &number)) error = "a size that is not a number";
                else f->size = (int64_t)number;
            }
        } else if (PAX_IS("uid") || PAX_IS("gid")) {
            unsigned bit = key[0] == 'u' ? PAX_UID : PAX_GID;
            f->have &= ~bit;
            if (vlen) {
                f->have |= bit;
                if (pax_number(value, vlen, UINT32_MAX - 1, &number)) error = "an owner that is not a number";
                else if (bit == PAX_UID) f->uid = (uint32_t)number;
                else f->gid = (uint32_t)number;
            }
        } else if (PAX_IS("mtime")) {
            f->have &= ~(unsigned)PAX_MTIME;
            if (vlen) {
                f->have |= PAX_MTIME;
                if (pax_time(value, vlen, &f->mtime_ns)) error = "a time that is not a number";
            }
        } else if (PAX_BEGINS("SCHILY.xattr.")) {
            error = pax_xattr(f, key + 13, klen - 13, value, vlen, 1);
        } else if (PAX_BEGINS("LIBARCHIVE.xattr.")) {
            error = pax_libarchive_xattr(f, key + 17, klen - 17, value, vlen);
        } else if (PAX_BEGINS("GNU.sparse.")) {
            error = "a sparse file, which is not supported";
        }
        p += length;
        n -= length;
    }
    return error;
}

/* Clean a path lexically: no empty, "." and ".." components, no slash at either end. `out` takes n + 1 bytes. Returns the length;
 * *climbs is set when it went above its root (it is clamped there). */
static inline size_t tar_clean(const char *p, size_t n, char *out, int *climbs) {
    size_t used = 0, i = 0;
    *climbs = 0;
    while (i < n) {
        size_t end = i;
        while (end < n && p[end] != '/') end++;
        size_t len = end - i;
        if (len == 0 || (len == 1 && p[i] == '.')) {
        } else if (len == 2 && p[i] == '.' && p[i + 1] == '.') {
            if (!used) *climbs = 1;
            while (used && out[used - 1] != '/') used--;
            if (used) used--;
        } else {
            if (used) out[used++] = '/';
            memmove(out + used, p + i, len);
            used += len;
        }
        i = end + 1;
    }
    out[used] = 0;
    return used;
}

#endif
