// Lets a wheel that is linked against a newer glibc run on older ones (MOLTIDE_OLD_GLIBC, x86-64):
// the linker sends these names here (--wrap), and each goes on to the version of the symbol that
// has been there from the start. Static libstdc++ needs the ones that the engine does not.
#include <pthread.h>
#include <sys/stat.h>

#define MOLTIDE_FIRST_VERSION(result, name, parameters, arguments) \
  extern "C" result first_##name parameters;                       \
  __asm__(".symver first_" #name "," #name "@GLIBC_2.2.5");        \
  extern "C" result __wrap_##name parameters {                     \
    return first_##name arguments;                                 \
  }

// 2.27 and 2.29 dropped the error handling of System V, and changed nothing else.
MOLTIDE_FIRST_VERSION(float, logf, (float x), (x))
MOLTIDE_FIRST_VERSION(double, exp, (double x), (x))
MOLTIDE_FIRST_VERSION(double, log, (double x), (x))
MOLTIDE_FIRST_VERSION(double, pow, (double x, double y), (x, y))
// 2.34 moved these from libpthread to libc.
MOLTIDE_FIRST_VERSION(int, pthread_create,
                      (pthread_t * thread, const pthread_attr_t* attributes, void* (*start)(void*),
                       void* argument),
                      (thread, attributes, start, argument))
MOLTIDE_FIRST_VERSION(int, pthread_join, (pthread_t thread, void** result), (thread, result))
MOLTIDE_FIRST_VERSION(int, pthread_mutex_trylock, (pthread_mutex_t * mutex), (mutex))
MOLTIDE_FIRST_VERSION(int, pthread_once, (pthread_once_t * once, void (*function)()),
                      (once, function))

// 2.33 made a function of what was a macro over __fxstat64; 1 is the layout of struct stat.
extern "C" int first_fxstat64(int layout, int file, struct stat64* out);
__asm__(".symver first_fxstat64,__fxstat64@GLIBC_2.2.5");
extern "C" int __wrap_fstat64(int file, struct stat64* out) {
  return first_fxstat64(1, file, out);
}
extern "C" int first_fxstat(int layout, int file, struct stat* out);
__asm__(".symver first_fxstat,__fxstat@GLIBC_2.2.5");
extern "C" int __wrap_fstat(int file, struct stat* out) {
  return first_fxstat(1, file, out);
}

// 2.32: whether the process has one thread, so that shared_ptr may count without atomics.
extern "C" char __wrap___libc_single_threaded;
char __wrap___libc_single_threaded = 0;
