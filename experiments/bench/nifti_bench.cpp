// SPDX-License-Identifier: Apache-2.0
// Inflating a .nii.gz by libdeflate and by zlib, turn by turn on the same bytes, so that a busy
// machine slows both alike; `ratio` is zlib's time over libdeflate's.
#include <benchmark/benchmark.h>
#include <libdeflate.h>
#include <zlib.h>

#include <chrono>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "nas/core/error.h"
#include "nas/core/rng.h"

namespace {

/// An int16 image of smooth shapes with noise in its low bits: compresses about as MRI does.
std::string image_bytes(std::int64_t voxels) {
  nas::Rng rng("nifti-bench");
  std::string bytes(static_cast<std::size_t>(voxels) * 2, '\0');
  for (std::int64_t i = 0; i < voxels; ++i) {
    const double smooth = 400 + 300 * std::sin(static_cast<double>(i % 240) / 40.0);
    const auto value = static_cast<std::uint16_t>(smooth + static_cast<double>(rng.bits() & 15));
    bytes[static_cast<std::size_t>(2 * i)] = static_cast<char>(value & 0xff);
    bytes[static_cast<std::size_t>(2 * i + 1)] = static_cast<char>(value >> 8);
  }
  return bytes;
}

std::string gzip(const std::string& bytes) {
  libdeflate_compressor* compressor = libdeflate_alloc_compressor(6);
  std::string out(libdeflate_gzip_compress_bound(compressor, bytes.size()), '\0');
  out.resize(
      libdeflate_gzip_compress(compressor, bytes.data(), bytes.size(), out.data(), out.size()));
  libdeflate_free_compressor(compressor);
  return out;
}

void inflate_by_libdeflate(const std::string& packed, std::string& out) {
  libdeflate_decompressor* decompressor = libdeflate_alloc_decompressor();
  const auto result = libdeflate_gzip_decompress(
      decompressor, packed.data(), packed.size(), out.data(), out.size(), nullptr);
  libdeflate_free_decompressor(decompressor);
  NAS_CHECK_KIND(Internal, result == LIBDEFLATE_SUCCESS, "libdeflate: result ", result);
}

void inflate_by_zlib(std::string& packed, std::string& out) {
  z_stream stream{};
  NAS_CHECK_KIND(Internal, inflateInit2(&stream, 16 + MAX_WBITS) == Z_OK, "inflateInit2 failed");
  stream.next_in = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_in = static_cast<uInt>(packed.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  const int result = inflate(&stream, Z_FINISH);
  inflateEnd(&stream);
  NAS_CHECK_KIND(Internal, result == Z_STREAM_END, "zlib: result ", result);
}

void bench_inflate(benchmark::State& state) {
  using Clock = std::chrono::steady_clock;
  const std::string bytes = image_bytes(state.range(0));
  std::string packed = gzip(bytes), out(bytes.size(), '\0');
  double libdeflate_seconds = 0, zlib_seconds = 0;
  for (auto _ : state) {
    const auto start = Clock::now();
    inflate_by_libdeflate(packed, out);
    const auto middle = Clock::now();
    inflate_by_zlib(packed, out);
    const auto end = Clock::now();
    libdeflate_seconds += std::chrono::duration<double>(middle - start).count();
    zlib_seconds += std::chrono::duration<double>(end - middle).count();
    benchmark::DoNotOptimize(out.data());
  }
  const double megabytes =
      static_cast<double>(bytes.size()) * static_cast<double>(state.iterations()) / 1e6;
  state.counters["libdeflate_MB/s"] = megabytes / libdeflate_seconds;
  state.counters["zlib_MB/s"] = megabytes / zlib_seconds;
  state.counters["ratio"] = zlib_seconds / libdeflate_seconds;
}
BENCHMARK(bench_inflate)->Arg(35 * 51 * 35)->Arg(240 * 240 * 155)->Unit(benchmark::kMillisecond);

}  // namespace

BENCHMARK_MAIN();
