// Lets the n-th call of some kind fail, as often as is wanted: allocations of NumPy's arrays, allocations of native code, calls
// that have to do with files of one folder, new threads. Loaded in front of the C library (LD_PRELOAD) by inject_failures.py.
//
// An allocation is that of native code if the C backend's library makes it, or code that no file holds, which a compiler has
// made as the program runs.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ARRAYS, NATIVE, FILES, THREADS, KINDS };
enum { SHORT = -1 }; // in place of an error: half is written, and the next write fails for want of room

static struct {
    long made, first, last;
    int error, active;
} state[KINDS];
static char folder[4096];

// From now on, calls of a kind are counted, and those from the first to before the last fail.
void inject(int kind, long first, long last, int error) {
    state[kind].made = 0;
    state[kind].first = first;
    state[kind].last = last;
    state[kind].error = error;
    __atomic_store_n(&state[kind].active, 1, __ATOMIC_SEQ_CST);
}

// Ends that; returns how many calls there were.
long injected(int kind) {
    __atomic_store_n(&state[kind].active, 0, __ATOMIC_SEQ_CST);
    return state[kind].made;
}

void watch_folder(const char *name) { snprintf(folder, sizeof folder, "%s", name); }

static int fails(int kind) {
    if (!__atomic_load_n(&state[kind].active, __ATOMIC_RELAXED)) return 0;
    const long n = __atomic_fetch_add(&state[kind].made, 1, __ATOMIC_RELAXED);
    if (n < state[kind].first || n >= state[kind].last) return 0;
    errno = state[kind].error;
    return 1;
}

// Arrays: the functions of NumPy's handler of memory (NEP 49).

typedef struct {
    char name[127];
    uint8_t version;
    void *context;
    void *(*malloc)(void *, size_t);
    void *(*calloc)(void *, size_t, size_t);
    void *(*realloc)(void *, void *, size_t);
    void (*free)(void *, void *, size_t);
} Handler;

static Handler original;

static void *array_malloc(void *context, size_t size) { return fails(ARRAYS) ? 0 : original.malloc(context, size); }
static void *array_calloc(void *context, size_t count, size_t size) {
    return fails(ARRAYS) ? 0 : original.calloc(context, count, size);
}
static void *array_realloc(void *context, void *old, size_t size) {
    return fails(ARRAYS) ? 0 : original.realloc(context, old, size);
}

void watch_arrays(Handler *handler) {
    original = *handler;
    handler->malloc = array_malloc;
    handler->calloc = array_calloc;
    handler->realloc = array_realloc;
}

#define REAL(name) \
    static __typeof__(name) *real; \
    if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name);

// Native code. What dlsym itself allocates comes from a little memory of our own.

static int is_native(void *caller) {
    static __thread int asking;
    if (asking || !__atomic_load_n(&state[NATIVE].active, __ATOMIC_RELAXED)) return 0;
    asking = 1;
    Dl_info info;
    const int found = dladdr(caller, &info);
    asking = 0;
    return !found || strstr(info.dli_fname, "wyrm_c_simd");
}

static char little[8192];
static size_t used;

static void *from_little(size_t size) {
    void *memory = little + used;
    used += (size + 15) / 16 * 16;
    return used <= sizeof little ? memory : 0;
}

static int is_little(void *memory) { return (char *)memory >= little && (char *)memory < little + sizeof little; }

void *calloc(size_t count, size_t size) {
    static __thread int looking;
    if (looking) return from_little(count * size);
    looking = 1;
    REAL(calloc)
    looking = 0;
    if (is_native(__builtin_return_address(0)) && fails(NATIVE)) return 0;
    return real(count, size);
}

void *malloc(size_t size) {
    REAL(malloc)
    if (is_native(__builtin_return_address(0)) && fails(NATIVE)) return 0;
    return real(size);
}

void *realloc(void *old, size_t size) {
    REAL(realloc)
    if (is_native(__builtin_return_address(0)) && fails(NATIVE)) return 0;
    return real(old, size);
}

int posix_memalign(void **to, size_t alignment, size_t size) {
    REAL(posix_memalign)
    if (is_native(__builtin_return_address(0)) && fails(NATIVE)) return ENOMEM;
    return real(to, alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size) {
    REAL(aligned_alloc)
    if (is_native(__builtin_return_address(0)) && fails(NATIVE)) return 0;
    return real(alignment, size);
}

void free(void *memory) {
    if (is_little(memory)) return;
    REAL(free)
    real(memory);
}

// Files: calls that name a file in the folder, or hold one open.

static int is_ours(const char *path) { return folder[0] && path && !strncmp(path, folder, strlen(folder)); }

static int is_open(int descriptor) {
    if (!state[FILES].active) return 0;
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    const ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return is_ours(path);
}

#define FAIL_IF(ours) \
    if ((ours) && fails(FILES)) { \
        if (errno == SHORT) errno = ENOSPC; \
        return -1; \
    }

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        REAL(name) \
        va_list more; \
        va_start(more, flags); \
        const mode_t mode = va_arg(more, mode_t); \
        va_end(more); \
        FAIL_IF(is_ours(path)) \
        return real(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

#define ON_PATH(name, ...) FAIL_IF(is_ours(path)) return real(__VA_ARGS__);

int stat(const char *path, struct stat *to) {
    REAL(stat)
    ON_PATH(stat, path, to)
}
int stat64(const char *path, struct stat64 *to) {
    REAL(stat64)
    ON_PATH(stat64, path, to)
}
int rename(const char *from, const char *path) {
    REAL(rename)
    ON_PATH(rename, from, path)
}
int unlink(const char *path) {
    REAL(unlink)
    ON_PATH(unlink, path)
}

ssize_t write(int descriptor, const void *bytes, size_t count) {
    REAL(write)
    if (is_open(descriptor)) {
        if (state[FILES].error == SHORT && state[FILES].made == state[FILES].first && count > 1) {
            state[FILES].first++, state[FILES].last++, state[FILES].made++;
            return real(descriptor, bytes, count / 2);
        }
        FAIL_IF(1)
    }
    return real(descriptor, bytes, count);
}
int fstat(int descriptor, struct stat *to) {
    REAL(fstat)
    FAIL_IF(is_open(descriptor)) return real(descriptor, to);
}
int fstat64(int descriptor, struct stat64 *to) {
    REAL(fstat64)
    FAIL_IF(is_open(descriptor)) return real(descriptor, to);
}
int fsync(int descriptor) {
    REAL(fsync)
    FAIL_IF(is_open(descriptor)) return real(descriptor);
}
int fchmod(int descriptor, mode_t mode) {
    REAL(fchmod)
    FAIL_IF(is_open(descriptor)) return real(descriptor, mode);
}
int flock(int descriptor, int how) {
    REAL(flock)
    FAIL_IF(is_open(descriptor)) return real(descriptor, how);
}
int close(int descriptor) { // which closes, whatever it says
    REAL(close)
    const int failed = is_open(descriptor) && fails(FILES), error = errno;
    const int status = real(descriptor);
    if (failed) errno = error == SHORT ? ENOSPC : error;
    return failed ? -1 : status;
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*function)(void *), void *argument) {
    REAL(pthread_create)
    if (fails(THREADS)) return EAGAIN;
    return real(thread, attributes, function, argument);
}
