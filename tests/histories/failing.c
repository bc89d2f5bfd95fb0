/*
 * Calls to the system that fail below one folder, as a test has planned: LD_PRELOADed into a gateway.
 *
 * The plan is a file that the test and the process share. Each slot of it strikes one call, told by its number. What is
 * not yet durable is lost with the process, as where the power fails: a file that was written and not synced is zeros
 * then. So it is after an fsync that fails: the kernel forgets what it could not write.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* As `failing.rs` numbers them. */
enum call { NO_CALL, SYNC, WRITE, LINK, RENAME, UNLINK, MKDIR, TMPFILE, CREATE };
enum fault { NO_FAULT, IO_ERROR, NO_SPACE, INTERRUPTED, SHORT, DIE_BEFORE, DIE_AFTER, SLOW };

#define SLOTS 16

/* So long a slow call takes, in microseconds: long enough for whatever no lock keeps out. */
#define DELAY 20000

struct slot {
    uint32_t call, nth, fault, asked;
    /* When it struck, in nanoseconds since 1970. */
    int64_t at;
};

static struct slot *slots;
static const char *folder;
static int has_no_tmpfile;

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("FAILING_PLAN");
    int plan = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (plan < 0)
        return;
    folder = getenv("FAILING_FOLDER");
    has_no_tmpfile = getenv("FAILING_NO_TMPFILE") != NULL;
    slots = mmap(NULL, SLOTS * sizeof *slots, PROT_READ | PROT_WRITE, MAP_SHARED, plan, 0);
    close(plan);
    if (slots == MAP_FAILED)
        abort();
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* Whether a descriptor is of the folder, or of something in it. */
static int is_ours(int fd)
{
    char link[32], path[4096];
    size_t length = folder ? strlen(folder) : 0;
    if (!length || fd < 0)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t read = readlink(link, path, sizeof path - 1);
    if (read < (ssize_t)length)
        return 0;
    path[read] = 0;
    return !memcmp(path, folder, length) && (!path[length] || path[length] == '/');
}

/* Files that were written and are not durable: each by a descriptor of its own. */
#define MOST 1024
static struct { dev_t device; ino_t inode; int fd; } unsynced[MOST];
static int unsynced_count;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int place_of(const struct stat *of)
{
    for (int at = 0; at < unsynced_count; at++)
        if (unsynced[at].device == of->st_dev && unsynced[at].inode == of->st_ino)
            return at;
    return -1;
}

static void is_written(int fd)
{
    struct stat found;
    if (fstat(fd, &found) || !S_ISREG(found.st_mode))
        return;
    pthread_mutex_lock(&lock);
    if (place_of(&found) < 0 && unsynced_count < MOST) {
        unsynced[unsynced_count].device = found.st_dev;
        unsynced[unsynced_count].inode = found.st_ino;
        unsynced[unsynced_count++].fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    }
    pthread_mutex_unlock(&lock);
}

/* It is durable, or gone. */
static void is_settled(const struct stat *found)
{
    int fd = -1;
    pthread_mutex_lock(&lock);
    int at = place_of(found);
    if (at >= 0) {
        fd = unsynced[at].fd;
        unsynced[at] = unsynced[--unsynced_count];
    }
    pthread_mutex_unlock(&lock);
    if (fd >= 0)
        REAL(close)(fd);
}

/* Nothing is left of what was written, but the length. */
static void lose(int fd)
{
    struct stat found;
    if (!fstat(fd, &found) && S_ISREG(found.st_mode) && !ftruncate(fd, 0) && ftruncate(fd, found.st_size))
        abort();
}

static void die(void)
{
    pthread_mutex_lock(&lock);
    for (int at = 0; at < unsynced_count; at++)
        lose(unsynced[at].fd);
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

/* Counts a call. The fault that strikes it. */
static int count(enum call call, int fd)
{
    int struck = NO_FAULT, kept = errno;
    if (!slots || !is_ours(fd))
        return NO_FAULT;
    for (struct slot *slot = slots; slot < slots + SLOTS; slot++) {
        if (slot->call != call || __atomic_fetch_add(&slot->asked, 1, __ATOMIC_SEQ_CST) != slot->nth)
            continue;
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        slot->at = now.tv_sec * 1000000000LL + now.tv_nsec;
        struck = slot->fault;
    }
    if (struck == DIE_BEFORE)
        die();
    if (struck == SLOW)
        usleep(DELAY);
    errno = kept;
    return struck;
}

/* Whether the call fails; then errno says how. */
static int fails(int fault)
{
    switch (fault) {
    case IO_ERROR: errno = EIO; return 1;
    case NO_SPACE: errno = ENOSPC; return 1;
    case INTERRUPTED: errno = EINTR; return 1;
    default: return 0;
    }
}

static long after(int fault, long result)
{
    if (fault == DIE_AFTER)
        die();
    return result;
}

/* A call that changes names in a directory. */
#define NAMED(call, directory, real) \
    int fault = count(call, directory); \
    return fails(fault) ? -1 : after(fault, real)

int linkat(int from, const char *old, int to, const char *new, int flags)
{
    NAMED(LINK, to, REAL(linkat)(from, old, to, new, flags));
}

int renameat(int from, const char *old, int to, const char *new)
{
    NAMED(RENAME, to, REAL(renameat)(from, old, to, new));
}

int renameat2(int from, const char *old, int to, const char *new, unsigned flags)
{
    NAMED(RENAME, to, REAL(renameat2)(from, old, to, new, flags));
}

int unlinkat(int directory, const char *name, int flags)
{
    NAMED(UNLINK, directory, REAL(unlinkat)(directory, name, flags));
}

int mkdirat(int directory, const char *name, mode_t mode)
{
    NAMED(MKDIR, directory, REAL(mkdirat)(directory, name, mode));
}

static int is_nameless(int directory, int flags)
{
    return (flags & O_TMPFILE) == O_TMPFILE && is_ours(directory);
}

static int nameless(int directory, const char *path, int flags, mode_t mode)
{
    int fault = count(TMPFILE, directory);
    if (has_no_tmpfile) {
        errno = EOPNOTSUPP;
        return -1;
    }
    return fails(fault) ? -1 : after(fault, REAL(openat)(directory, path, flags, mode));
}

#define OPENAT(name) \
    int name(int directory, const char *path, int flags, ...) \
    { \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest); \
        if (is_nameless(directory, flags)) \
            return nameless(directory, path, flags, mode); \
        return REAL(name)(directory, path, flags, mode); \
    }
OPENAT(openat)
OPENAT(openat64)

/* openat2(2) has no function of its own. */
long syscall(long number, ...)
{
    static __typeof__(&syscall) real;
    long of[6];
    va_list rest;
    va_start(rest, number);
    for (int at = 0; at < 6; at++)
        of[at] = va_arg(rest, long);
    va_end(rest);
    if (!real)
        real = REAL(syscall);
    const struct open_how *how = (const struct open_how *)of[2];
    if (number != SYS_openat2 || !(how->flags & O_CREAT))
        return real(number, of[0], of[1], of[2], of[3], of[4], of[5]);
    int fault = count(CREATE, (int)of[0]);
    return fails(fault) ? -1 : after(fault, real(number, of[0], of[1], of[2], of[3]));
}

static int synced(int fd, int (*real)(int))
{
    int fault = count(SYNC, fd);
    if (fault == IO_ERROR || fault == NO_SPACE)
        lose(fd);
    if (fails(fault))
        return -1;
    int result = real(fd);
    struct stat found;
    if (!result && unsynced_count && !fstat(fd, &found))
        is_settled(&found);
    return after(fault, result);
}

int fsync(int fd)
{
    return synced(fd, REAL(fsync));
}

int fdatasync(int fd)
{
    return synced(fd, REAL(fdatasync));
}

/* How much of so many bytes is written. */
static size_t taken(int fault, size_t size)
{
    return fault == SHORT && size > 1 ? size / 2 : size;
}

static ssize_t written(int fault, int fd, ssize_t result)
{
    if (slots && result > 0 && is_ours(fd))
        is_written(fd);
    return after(fault, result);
}

#define WRITTEN(fd, real) \
    int fault = count(WRITE, fd); \
    return fails(fault) ? -1 : written(fault, fd, real)

ssize_t write(int fd, const void *data, size_t size)
{
    WRITTEN(fd, REAL(write)(fd, data, taken(fault, size)));
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at)
{
    WRITTEN(fd, REAL(pwrite)(fd, data, taken(fault, size), at));
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at)
{
    WRITTEN(fd, REAL(pwrite64)(fd, data, taken(fault, size), at));
}

ssize_t copy_file_range(int from, off64_t *at, int to, off64_t *to_at, size_t size, unsigned flags)
{
    WRITTEN(to, REAL(copy_file_range)(from, at, to, to_at, taken(fault, size), flags));
}

int close(int fd)
{
    struct stat found;
    if (unsynced_count && !fstat(fd, &found) && S_ISREG(found.st_mode) && !found.st_nlink)
        is_settled(&found);
    return REAL(close)(fd);
}
