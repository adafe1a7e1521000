// SPDX-License-Identifier: Apache-2.0
#pragma once

// The inner loops of norm_act, compiled once per vector width. A file compiled for a wide vector
// must not contain inline functions that other files share (the linker would keep one copy for all
// processors): no standard library here, and everything is in an anonymous namespace.

#include <cstdint>

namespace nas::kernels {

/// Loops over `rows` voxels of `channels` values of type T (float, or the bits of a bfloat16);
/// coefficient arrays hold one value per channel.
template <class T>
struct TypedLoops {
  /// sum[c] += x - pivot[c], square[c] += (x - pivot[c])^2.
  void (*moments)(const T* x,
                  std::int64_t rows,
                  std::int64_t channels,
                  const float* pivot,
                  float* sum,
                  float* square);
  /// z = a * x + b; y = z > 0 ? z : slope * z.
  void (*apply)(const T* x,
                std::int64_t rows,
                std::int64_t channels,
                const float* a,
                const float* b,
                float slope,
                T* y);
  /// g = dy * (a * x + b > 0 ? 1 : slope); sum[c] += g, product[c] += g * (x - mean[c]).
  void (*gradient_sums)(const T* dy,
                        const T* x,
                        std::int64_t rows,
                        std::int64_t channels,
                        const float* a,
                        const float* b,
                        const float* mean,
                        float slope,
                        float* sum,
                        float* product);
  /// dx = a * g + p * (x - mean) + q.
  void (*gradient)(const T* dy,
                   const T* x,
                   std::int64_t rows,
                   std::int64_t channels,
                   const float* a,
                   const float* b,
                   const float* mean,
                   const float* p,
                   const float* q,
                   float slope,
                   T* dx);
};

struct NormActLoops {
  const char* name;
  TypedLoops<float> f32;
  TypedLoops<std::uint16_t> bf16;
};

extern const NormActLoops kNormActBase;
#if defined(NAS_X86_VARIANTS)
extern const NormActLoops kNormActAvx2;
extern const NormActLoops kNormActAvx512;
#endif

#if defined(NAS_NORM_ACT_VARIANT)
namespace {

// Vectors as wide as a register. Lanes are channels, and the sums of a channel run over voxels in
// one order, so all widths give the same bits. The last few channels go one by one through the same
// formulas.
constexpr int kLanes = NAS_NORM_ACT_BYTES / 4;
typedef float Lanes __attribute__((vector_size(NAS_NORM_ACT_BYTES)));
typedef std::int32_t Words __attribute__((vector_size(NAS_NORM_ACT_BYTES)));
typedef std::uint32_t Bits __attribute__((vector_size(NAS_NORM_ACT_BYTES)));
typedef std::uint16_t Halves __attribute__((vector_size(NAS_NORM_ACT_BYTES / 2)));

#define NAS_ALWAYS __attribute__((always_inline)) static inline

NAS_ALWAYS void load(const float* from, Lanes& to) { __builtin_memcpy(&to, from, sizeof(to)); }
NAS_ALWAYS void store(const Lanes& from, float* to) { __builtin_memcpy(to, &from, sizeof(from)); }
NAS_ALWAYS void load(const std::uint16_t* from, Lanes& to) {
  Halves halves;
  __builtin_memcpy(&halves, from, sizeof(halves));
  const Bits bits = __builtin_convertvector(halves, Bits) << 16;
  __builtin_memcpy(&to, &bits, sizeof(to));
}
/// Round to nearest, ties to even; a NaN stays one.
NAS_ALWAYS void store(const Lanes& from, std::uint16_t* to) {
  Bits bits;
  __builtin_memcpy(&bits, &from, sizeof(bits));
  const Bits rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const Words number = from == from;
  const Bits kept = number ? rounded : (bits >> 16 | 0x40u);
  const Halves halves = __builtin_convertvector(kept, Halves);
  __builtin_memcpy(to, &halves, sizeof(halves));
}

NAS_ALWAYS void load(const float* from, float& to) { to = *from; }
NAS_ALWAYS void store(const float& from, float* to) { *to = from; }
NAS_ALWAYS void load(const std::uint16_t* from, float& to) {
  const std::uint32_t bits = static_cast<std::uint32_t>(*from) << 16;
  __builtin_memcpy(&to, &bits, sizeof(to));
}
NAS_ALWAYS void store(const float& from, std::uint16_t* to) {
  std::uint32_t bits;
  __builtin_memcpy(&bits, &from, sizeof(bits));
  const std::uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  *to = static_cast<std::uint16_t>(from == from ? rounded : (bits >> 16 | 0x40u));
}

NAS_ALWAYS void rectify(const Lanes& z, float slope, Lanes& y) { y = z > 0.0f ? z : z * slope; }
NAS_ALWAYS void rectify(const float& z, float slope, float& y) { y = z > 0.0f ? z : z * slope; }
/// g = dy where z > 0, slope * dy elsewhere.
NAS_ALWAYS void gate(const Lanes& z, const Lanes& dy, float slope, Lanes& g) {
  g = z > 0.0f ? dy : dy * slope;
}
NAS_ALWAYS void gate(const float& z, const float& dy, float slope, float& g) {
  g = z > 0.0f ? dy : dy * slope;
}

// Each pass handles COUNT values of type V (Lanes or float) per voxel, starting at channel c.
template <class V, int COUNT, class T>
NAS_ALWAYS void moments_pass(const T* x,
                             std::int64_t rows,
                             std::int64_t stride,
                             const float* pivot,
                             float* sum,
                             float* square) {
  constexpr int kStep = static_cast<int>(sizeof(V) / sizeof(float));
  V p[COUNT], s[COUNT], q[COUNT];
#pragma GCC unroll 4
  for (int k = 0; k < COUNT; ++k) {
    load(pivot + k * kStep, p[k]);
    load(sum + k * kStep, s[k]);
    load(square + k * kStep, q[k]);
  }
  for (std::int64_t r = 0; r < rows; ++r, x += stride) {
#pragma GCC unroll 4
    for (int k = 0; k < COUNT; ++k) {
      V v;
      load(x + k * kStep, v);
      v = v - p[k];
      s[k] = s[k] + v;
      q[k] = q[k] + v * v;
    }
  }
#pragma GCC unroll 4
  for (int k = 0; k < COUNT; ++k) {
    store(s[k], sum + k * kStep);
    store(q[k], square + k * kStep);
  }
}

template <class V, int COUNT, class T>
NAS_ALWAYS void apply_pass(const T* x,
                           std::int64_t rows,
                           std::int64_t stride,
                           const float* a,
                           const float* b,
                           float slope,
                           T* y) {
  constexpr int kStep = static_cast<int>(sizeof(V) / sizeof(float));
  V va[COUNT], vb[COUNT];
#pragma GCC unroll 4
  for (int k = 0; k < COUNT; ++k) {
    load(a + k * kStep, va[k]);
    load(b + k * kStep, vb[k]);
  }
  for (std::int64_t r = 0; r < rows; ++r, x += stride, y += stride) {
#pragma GCC unroll 4
    for (int k = 0; k < COUNT; ++k) {
      V v;
      load(x + k * kStep, v);
      v = va[k] * v + vb[k];
      rectify(v, slope, v);
      store(v, y + k * kStep);
    }
  }
}

template <class V, int COUNT, class T>
NAS_ALWAYS void gradient_sums_pass(const T* dy,
                                   const T* x,
                                   std::int64_t rows,
                                   std::int64_t stride,
                                   const float* a,
                                   const float* b,
                                   const float* mean,
                                   float slope,
                                   float* sum,
                                   float* product) {
  constexpr int kStep = static_cast<int>(sizeof(V) / sizeof(float));
  V va[COUNT], vb[COUNT], vm[COUNT], s[COUNT], q[COUNT];
#pragma GCC unroll 4
  for (int k = 0; k < COUNT; ++k) {
    load(a + k * kStep, va[k]);
    load(b + k * kStep, vb[k]);
    load(mean + k * kStep, vm[k]);
    load(sum + k * kStep, s[k]);
    load(product + k * kStep, q[k]);
  }
  for (std::int64_t r = 0; r < rows; ++r, x += stride, dy += stride) {
#pragma GCC unroll 4
    for (int k = 0; k < COUNT; ++k) {
      V v, g;
      load(x + k * kStep, v);
      load(dy + k * kStep, g);
      const V z = va[k] * v + vb[k];
      gate(z, g, slope, g);
      s[k] = s[k] + g;
      q[k] = q[k] + g * (v - vm[k]);
    }
  }
#pragma GCC unroll 4
  for (int k = 0; k < COUNT; ++k) {
    store(s[k], sum + k * kStep);
    store(q[k], product + k * kStep);
  }
}

template <class V, int COUNT, class T>
NAS_ALWAYS void gradient_pass(const T* dy,
                              const T* x,
                              std::int64_t rows,
                              std::int64_t stride,
                              const float* a,
                              const float* b,
                              const float* mean,
                              const float* p,
                              const float* q,
                              float slope,
                              T* dx) {
  constexpr int kStep = static_cast<int>(sizeof(V) / sizeof(float));
  V va[COUNT], vb[COUNT], vm[COUNT], vp[COUNT], vq[COUNT];
#pragma GCC unroll 4
  for (int k = 0; k < COUNT; ++k) {
    load(a + k * kStep, va[k]);
    load(b + k * kStep, vb[k]);
    load(mean + k * kStep, vm[k]);
    load(p + k * kStep, vp[k]);
    load(q + k * kStep, vq[k]);
  }
  for (std::int64_t r = 0; r < rows; ++r, x += stride, dy += stride, dx += stride) {
#pragma GCC unroll 4
    for (int k = 0; k < COUNT; ++k) {
      V v, g;
      load(x + k * kStep, v);
      load(dy + k * kStep, g);
      const V z = va[k] * v + vb[k];
      gate(z, g, slope, g);
      v = va[k] * g + vp[k] * (v - vm[k]) + vq[k];
      store(v, dx + k * kStep);
    }
  }
}

// All channels: two vectors at a time, then one, then channel by channel. PASS is a macro argument
// because the passes take different arguments.
#define NAS_OVER_CHANNELS(PASS, ...)                                               \
  std::int64_t c = 0;                                                              \
  for (; c + 2 * kLanes <= channels; c += 2 * kLanes) PASS<Lanes, 2>(__VA_ARGS__); \
  for (; c + kLanes <= channels; c += kLanes) PASS<Lanes, 1>(__VA_ARGS__);         \
  for (; c < channels; ++c) PASS<float, 1>(__VA_ARGS__)

template <class T>
void moments(const T* x,
             std::int64_t rows,
             std::int64_t channels,
             const float* pivot,
             float* sum,
             float* square) {
  NAS_OVER_CHANNELS(moments_pass, x + c, rows, channels, pivot + c, sum + c, square + c);
}

template <class T>
void apply(const T* x,
           std::int64_t rows,
           std::int64_t channels,
           const float* a,
           const float* b,
           float slope,
           T* y) {
  NAS_OVER_CHANNELS(apply_pass, x + c, rows, channels, a + c, b + c, slope, y + c);
}

template <class T>
void gradient_sums(const T* dy,
                   const T* x,
                   std::int64_t rows,
                   std::int64_t channels,
                   const float* a,
                   const float* b,
                   const float* mean,
                   float slope,
                   float* sum,
                   float* product) {
  NAS_OVER_CHANNELS(gradient_sums_pass,
                    dy + c,
                    x + c,
                    rows,
                    channels,
                    a + c,
                    b + c,
                    mean + c,
                    slope,
                    sum + c,
                    product + c);
}

template <class T>
void gradient(const T* dy,
              const T* x,
              std::int64_t rows,
              std::int64_t channels,
              const float* a,
              const float* b,
              const float* mean,
              const float* p,
              const float* q,
              float slope,
              T* dx) {
  NAS_OVER_CHANNELS(gradient_pass,
                    dy + c,
                    x + c,
                    rows,
                    channels,
                    a + c,
                    b + c,
                    mean + c,
                    p + c,
                    q + c,
                    slope,
                    dx + c);
}

}  // namespace

extern const NormActLoops NAS_NORM_ACT_VARIANT;
const NormActLoops NAS_NORM_ACT_VARIANT{
    NAS_NORM_ACT_NAME,
    {moments<float>, apply<float>, gradient_sums<float>, gradient<float>},
    {moments<std::uint16_t>,
     apply<std::uint16_t>,
     gradient_sums<std::uint16_t>,
     gradient<std::uint16_t>}};
#endif

}  // namespace nas::kernels
