# Options and flags that every target shares.
option(NAS_WITH_TORCH "Build the floors above the torch line" ON)
option(NAS_BUILD_TESTS "Build tests" ON)
option(NAS_WERROR "Warnings are errors in our own code" ON)
option(NAS_FUZZ "Build the libFuzzer targets (clang only)" OFF)
set(NAS_SANITIZE "" CACHE STRING "Sanitizers, e.g. address,undefined")
option(NAS_COVERAGE "Instrument for gcov" OFF)
set(NAS_CUDA "AUTO" CACHE STRING "CUDA kernels: AUTO (when an nvcc is found), ON, OFF")

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()
# -O3 without -ffast-math: results must not depend on the optimiser's taste. Kernels add -march in their own files.
set(CMAKE_CXX_FLAGS_RELEASE "-O3")

# The private environment and its downloads (scripts/setup.sh); outside the checkout.
if(DEFINED ENV{XDG_CACHE_HOME} AND NOT "$ENV{XDG_CACHE_HOME}" STREQUAL "")
  set(NAS_CACHE_DIR "$ENV{XDG_CACHE_HOME}/voxnas")
else()
  set(NAS_CACHE_DIR "$ENV{HOME}/.cache/voxnas")
endif()

find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM)
  # What ccache must be told to trust for precompiled headers (its manual, "Precompiled headers").
  # Paths below the checkout are made relative, so that another clone finds the same objects.
  set(_nas_ccache ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime
    CCACHE_BASEDIR=${PROJECT_SOURCE_DIR} CCACHE_NOHASHDIR=1
    ${CCACHE_PROGRAM})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${_nas_ccache})
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${_nas_ccache})
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-fpch-preprocess>)
  endif()
endif()

if(NAS_SANITIZE)
  add_compile_options(-fsanitize=${NAS_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${NAS_SANITIZE})
endif()
if(NAS_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID MATCHES "Clang")
    message(FATAL_ERROR "NAS_FUZZ: expected clang, found ${CMAKE_CXX_COMPILER_ID}; use the preset `fuzz`")
  endif()
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
if(NAS_COVERAGE)
  add_compile_options(--coverage -O0)
  add_link_options(--coverage)
endif()
