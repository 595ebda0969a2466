/*
 * Loaded into a node with LD_PRELOAD: makes its disk and its wall clock misbehave as a control
 * file says, which is mapped and may change at any time.
 *
 * Syncs fail with EIO or take longer; writes to regular files below a directory fail with ENOSPC;
 * CLOCK_REALTIME is shifted, the monotonic clock is not. Nothing here allocates, locks or keeps
 * state of its own, so any thread may come by at any time, before main() too.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* The same layout as in shim.rs. */
struct control {
    uint32_t fail_syncs; /* so many fail; all of them if UINT32_MAX */
    uint32_t slow_sync_ms;
    uint32_t full; /* writes fail */
    uint32_t unused;
    int64_t clock_offset_ns;
    /* What happened, for whoever looks. */
    uint64_t syncs;
    uint64_t failed_syncs;
    uint64_t slowed_syncs;
    uint64_t refused_writes;
    uint64_t shifted_reads;
};

static struct control *control;
static const char *directory;
static size_t directory_length;
static int (*real_clock_gettime)(clockid_t, struct timespec *);

#define LOOK(field) __atomic_load_n(&control->field, __ATOMIC_RELAXED)
#define COUNT(field) __atomic_fetch_add(&control->field, 1, __ATOMIC_RELAXED)

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("AQUEDUCT_SHIM_CONTROL");
    *(void **)&real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    directory = getenv("AQUEDUCT_SHIM_DIR");
    directory_length = directory ? strlen(directory) : 0;
    if (!path) return;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) return;
    void *mapped = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (mapped != MAP_FAILED) control = mapped;
}

static void sleep_ms(uint32_t ms) {
    struct timespec left = {ms / 1000, (ms % 1000) * 1000000L};
    while (syscall(SYS_nanosleep, &left, &left) < 0 && errno == EINTR) {}
}

/* Takes one failure, if there is any left. */
static int take_failure(void) {
    uint32_t left = LOOK(fail_syncs);
    while (left != 0 && left != UINT32_MAX) {
        if (__atomic_compare_exchange_n(&control->fail_syncs, &left, left - 1, 0,
                                        __ATOMIC_RELAXED, __ATOMIC_RELAXED))
            return 1;
    }
    return left != 0;
}

/* Whether a sync is to fail; takes its time first. */
static int spoil_sync(void) {
    if (!control) return 0;
    COUNT(syncs);
    uint32_t ms = LOOK(slow_sync_ms);
    if (ms) {
        COUNT(slowed_syncs);
        sleep_ms(ms);
    }
    if (!take_failure()) return 0;
    COUNT(failed_syncs);
    errno = EIO;
    return 1;
}

int fsync(int fd) {
    return spoil_sync() ? -1 : (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd) {
    return spoil_sync() ? -1 : (int)syscall(SYS_fdatasync, fd);
}

int sync_file_range(int fd, off64_t offset, off64_t bytes, unsigned flags) {
    return spoil_sync() ? -1 : (int)syscall(SYS_sync_file_range, fd, offset, bytes, flags);
}

/* Whether a write is to fail: the disk is full, and this is a regular file on it. */
static int refuse_write(int fd) {
    if (!control || !LOOK(full) || !directory_length) return 0;
    int before = errno;
    struct stat found;
    char link[48], target[4096];
    int ours = fstat(fd, &found) == 0 && S_ISREG(found.st_mode);
    if (ours) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t length = readlink(link, target, sizeof target);
        ours = length > (ssize_t)directory_length &&
               memcmp(target, directory, directory_length) == 0 && target[directory_length] == '/';
    }
    errno = before;
    if (!ours) return 0;
    COUNT(refused_writes);
    errno = ENOSPC;
    return 1;
}

ssize_t write(int fd, const void *bytes, size_t length) {
    return refuse_write(fd) ? -1 : syscall(SYS_write, fd, bytes, length);
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) {
    return refuse_write(fd) ? -1 : syscall(SYS_pwrite64, fd, bytes, length, offset);
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t offset) {
    return refuse_write(fd) ? -1 : syscall(SYS_pwrite64, fd, bytes, length, offset);
}

ssize_t writev(int fd, const struct iovec *pieces, int count) {
    return refuse_write(fd) ? -1 : syscall(SYS_writev, fd, pieces, count);
}

int fallocate(int fd, int mode, off_t offset, off_t length) {
    return refuse_write(fd) ? -1 : (int)syscall(SYS_fallocate, fd, mode, offset, length);
}

int fallocate64(int fd, int mode, off64_t offset, off64_t length) {
    return refuse_write(fd) ? -1 : (int)syscall(SYS_fallocate, fd, mode, offset, length);
}

static int64_t offset_of(clockid_t clock) {
    if (!control || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE)) return 0;
    return LOOK(clock_offset_ns);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    /* Threads of an allocator may come before the constructor. */
    int result = real_clock_gettime ? real_clock_gettime(clock, now)
                                    : (int)syscall(SYS_clock_gettime, clock, now);
    int64_t offset = offset_of(clock);
    if (result == 0 && offset != 0) {
        COUNT(shifted_reads);
        int64_t nanos = now->tv_nsec + offset % 1000000000;
        now->tv_sec += offset / 1000000000;
        if (nanos < 0) now->tv_sec -= 1, nanos += 1000000000;
        if (nanos >= 1000000000) now->tv_sec += 1, nanos -= 1000000000;
        now->tv_nsec = nanos;
    }
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    (void)zone;
    struct timespec found;
    int result = clock_gettime(CLOCK_REALTIME, &found);
    if (result == 0) *now = (struct timeval){found.tv_sec, found.tv_nsec / 1000};
    return result;
}

time_t time(time_t *to) {
    struct timespec found = {0, 0};
    clock_gettime(CLOCK_REALTIME, &found);
    if (to) *to = found.tv_sec;
    return found.tv_sec;
}
