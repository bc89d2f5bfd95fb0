/* Preloaded into a client: the first read after FAIL_AFTER bytes of its source fails, as from a bad disk. The source
 * is standard input, or the file whose name begins with $FAIL_PATH. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static long taken;

static int is_source(int fd) {
    const char *path = getenv("FAIL_PATH");
    char link[64], target[4096];
    if (!path) return fd == STDIN_FILENO;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, target, sizeof target - 1);
    if (length < 0) return 0;
    target[length] = 0;
    return strcmp(target, path) == 0;
}

ssize_t read(int fd, void *buffer, size_t size) {
    static ssize_t (*real)(int, void *, size_t);
    if (!real) real = (ssize_t (*)(int, void *, size_t))dlsym(RTLD_NEXT, "read");
    const char *limit = getenv("FAIL_AFTER");
    if (!limit || !is_source(fd)) return real(fd, buffer, size);
    long left = atol(limit) - taken;
    if (left <= 0) {
        errno = EIO;
        return -1;
    }
    ssize_t read = real(fd, buffer, size < (size_t)left ? size : (size_t)left);
    if (read > 0) taken += read;
    return read;
}
