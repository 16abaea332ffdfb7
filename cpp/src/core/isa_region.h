// Compiles LEGATO_REGION_FILE (an -inl.h file) once for each instruction set, inside one translation unit.
//
//   #define LEGATO_REGION_FILE "camera/camera-inl.h"
//   #include "core/isa_region.h"
//
// The file opens namespace legato::LEGATO_REGION and may use LEGATO_REGION_ISA and
// LEGATO_REGION_WIDTH (doubles in a register). Target pragmas, rather than one file
// for each ISA with its own -m flags, keep AVX-512 copies of STL templates out of the linker's hands. Every standard
// header must be included before this one. A math/ header is compiled again in each region (lanes-inl.h says how).
#ifndef LEGATO_REGION_FILE
#error "define LEGATO_REGION_FILE before including isa_region.h"
#endif

#undef LEGATO_REGION
#undef LEGATO_REGION_ISA
#undef LEGATO_REGION_WIDTH
#undef LEGATO_MATH

#define LEGATO_REGION baseline
#define LEGATO_REGION_WIDTH 2
#define LEGATO_REGION_ISA Isa::baseline
#define LEGATO_MATH legato::baseline::math
#include LEGATO_REGION_FILE
#undef LEGATO_REGION
#undef LEGATO_REGION_ISA
#undef LEGATO_REGION_WIDTH
#undef LEGATO_MATH

#if defined(__x86_64__)

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,bmi,bmi2"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,bmi,bmi2")
#endif
#define LEGATO_REGION avx2
#define LEGATO_REGION_WIDTH 4
#define LEGATO_REGION_ISA Isa::avx2
#define LEGATO_MATH legato::avx2::math
#include LEGATO_REGION_FILE
#undef LEGATO_REGION
#undef LEGATO_REGION_ISA
#undef LEGATO_REGION_WIDTH
#undef LEGATO_MATH
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

// Clang takes 512 bits by itself, and a word that it does not know (prefer-vector-width) voids the whole attribute.
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,bmi,bmi2,avx512f,avx512dq,avx512bw,avx512vl"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,bmi,bmi2,avx512f,avx512dq,avx512bw,avx512vl,prefer-vector-width=512")
#endif
#define LEGATO_REGION avx512
#define LEGATO_REGION_WIDTH 8
#define LEGATO_REGION_ISA Isa::avx512
#define LEGATO_MATH legato::avx512::math
#include LEGATO_REGION_FILE
#undef LEGATO_REGION
#undef LEGATO_REGION_ISA
#undef LEGATO_REGION_WIDTH
#undef LEGATO_MATH
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif  // __x86_64__

// After the regions a math/ header means the plain one again.
#define LEGATO_MATH legato::math

/// Calls the copy of `function` that active_isa() names.
#if defined(__x86_64__)
#define LEGATO_DISPATCH(function, ...)                                                 \
  (legato::active_isa() == legato::Isa::avx512 ? legato::avx512::function(__VA_ARGS__) \
   : legato::active_isa() == legato::Isa::avx2 ? legato::avx2::function(__VA_ARGS__)   \
                                               : legato::baseline::function(__VA_ARGS__))
#else
#define LEGATO_DISPATCH(function, ...) (legato::baseline::function(__VA_ARGS__))
#endif
#undef LEGATO_REGION_FILE
