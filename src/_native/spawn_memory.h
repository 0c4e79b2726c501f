/* A process that was forked from the builder forgets the builder's memory. Included by spawn_server.h alone. */
#ifndef PYBUILD_SPAWN_MEMORY_H
#define PYBUILD_SPAWN_MEMORY_H

#include <link.h>

static uint64_t read_hex(const char **p) {
    uint64_t value = 0;
    for (;; (*p)++) {
        char c = **p;
        if (c >= '0' && c <= '9') value = value * 16 + (uint64_t)(c - '0');
        else if (c >= 'a' && c <= 'f') value = value * 16 + (uint64_t)(c - 'a' + 10);
        else return value;
    }
}

#define KEPT 1024
static struct kept {
    uint64_t start, end;
} kept[KEPT];
static int n_kept;

static void keep(uint64_t start, uint64_t end) {
    if (n_kept < KEPT) kept[n_kept++] = (struct kept){start & ~4095ULL, (end + 4095) & ~4095ULL};
}

static int keep_object(struct dl_phdr_info *info, size_t size, void *tls) {
    uint64_t start = UINT64_MAX, end = 0;
    (void)size;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *h = &info->dlpi_phdr[i];
        if (h->p_type == PT_LOAD) {
            uint64_t at = info->dlpi_addr + h->p_vaddr;
            if (at < start) start = at;
            if (at + h->p_memsz > end) end = at + h->p_memsz;
        }
        if (h->p_type == PT_TLS && info->dlpi_tls_data) {
            struct kept *range = tls;
            uint64_t at = (uint64_t)(uintptr_t)info->dlpi_tls_data;
            /* blocks of libraries that were loaded late lie elsewhere, and are not needed */
            if (at + (1 << 18) > range->start && at < range->end + (1 << 18)) {
                if (at < range->start) range->start = at;
                if (at + h->p_memsz > range->end) range->end = at + h->p_memsz;
            }
        }
    }
    if (end) keep(start, end);
    return 0;
}

#if defined(__GLIBC__)
extern const ptrdiff_t __rseq_offset __attribute__((weak));
#endif

static uint64_t thread_pointer(void) {
#if defined(__x86_64__)
    uint64_t pointer;
    __asm__("mov %%fs:0, %0" : "=r"(pointer));
    return pointer;
#else
    return (uint64_t)(uintptr_t)__builtin_thread_pointer();
#endif
}

static struct kept thread_data;

/* Note what a copy of this thread needs to go on with another stack: programs, libraries and the thread's own data. */
static void note_kept(void) {
    uint64_t thread = thread_pointer(), error = (uint64_t)(uintptr_t)&errno;
    /* the C library's description of the thread lies right behind the thread pointer, or before it where the TLS blocks follow it */
#if defined(__x86_64__) || defined(__i386__) || defined(__s390x__)
    struct kept tls = {thread, thread + 2560};
#else
    struct kept tls = {thread - 2560, thread + 16};
#endif
    if (error < tls.start) tls.start = error;
    if (error + 256 > tls.end) tls.end = error + 256;
    n_kept = 0;
    dl_iterate_phdr(keep_object, &tls);
#if defined(__GLIBC__)
    if (&__rseq_offset) { /* the kernel writes there */
        uint64_t at = thread + (uint64_t)(int64_t)__rseq_offset;
        if (at < tls.start) tls.start = at;
        if (at + 64 > tls.end) tls.end = at + 64;
    }
#endif
    thread_data = tls;
    keep(tls.start, tls.end);
}

static void unmap_between(uint64_t start, uint64_t end) {
    while (start < end) {
        uint64_t next = end, after = end;
        for (int i = 0; i < n_kept; i++)
            if (kept[i].end > start && kept[i].start < next) {
                next = kept[i].start;
                after = kept[i].end;
            }
        if (next > start) munmap((void *)(uintptr_t)start, next - start);
        start = after;
    }
}

/* Unmap everything else: the builder's heap, buffers, arguments, environment and stacks. */
static void drop_memory(void) {
    static char text[1 << 20];
    size_t n = 0;
    uint64_t first = thread_data.start & ~4095ULL, last = (thread_data.end + 4095) & ~4095ULL, thread = thread_pointer();
    int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || n_kept == KEPT) return;
    for (;;) {
        ssize_t got = read(fd, text + n, sizeof text - 1 - n);
        if (got <= 0) break;
        n += (size_t)got;
    }
    close(fd);
    text[n] = 0;
    for (const char *p = text; *p;) {
        uint64_t start = read_hex(&p);
        if (*p++ != '-') return;
        uint64_t end = read_hex(&p);
        const char *line_end = p, *name = NULL;
        while (*line_end && *line_end != '\n') {
            if (!name && *line_end == '[') name = line_end;
            line_end++;
        }
        if (!*line_end) return; /* cut off */
        if (!name || strncmp(name, "[v", 2)) unmap_between(start, end); /* the kernel's own pages are [v...] */
        if (start <= thread && thread < end) {
            /* the rest of the pages that the thread's data shares with the heap */
            if (first < start) first = start;
            if (last > end) last = end;
            if (first < thread_data.start) memset((void *)(uintptr_t)first, 0, thread_data.start - first);
            if (thread_data.end < last) memset((void *)(uintptr_t)thread_data.end, 0, last - thread_data.end);
        }
        p = line_end + 1;
    }
}

#endif
