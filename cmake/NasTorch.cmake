# LibTorch as an imported target of our own, nas_torch: the wheel's TorchConfig.cmake wants a CUDA toolkit in one fixed
# layout and rewrites architecture flags. NAS_LIBTORCH is a folder with include/ and lib/: the torch folder of a wheel
# or a plain libtorch folder, with or without CUDA. VOXNAS_LIBTORCH in the environment wins over what was found before.
if(DEFINED ENV{VOXNAS_LIBTORCH} AND NOT "$ENV{VOXNAS_LIBTORCH}" STREQUAL "")
  set(NAS_LIBTORCH "$ENV{VOXNAS_LIBTORCH}" CACHE PATH "LibTorch folder (include/, lib/)" FORCE)
elseif(NOT NAS_LIBTORCH)
  file(GLOB _nas_found ${NAS_CACHE_DIR}/env/lib/python3*/site-packages/torch)
  list(APPEND _nas_found "")
  list(GET _nas_found 0 _nas_first)
  set(NAS_LIBTORCH "${_nas_first}" CACHE PATH "LibTorch folder (include/, lib/)" FORCE)
endif()
if(NOT EXISTS ${NAS_LIBTORCH}/include/torch/csrc/api/include/torch/torch.h OR NOT EXISTS ${NAS_LIBTORCH}/lib/libtorch_cpu.so)
  set(_nas_wrong "${NAS_LIBTORCH}")
  unset(NAS_LIBTORCH CACHE)  # look again next time
  message(FATAL_ERROR "LibTorch: expected include/torch/csrc/api/include/torch/torch.h and lib/libtorch_cpu.so in "
                      "'${_nas_wrong}'; run `make setup`, or set VOXNAS_LIBTORCH to a libtorch folder")
endif()

add_library(nas_torch INTERFACE)
target_include_directories(nas_torch SYSTEM INTERFACE
  ${NAS_LIBTORCH}/include ${NAS_LIBTORCH}/include/torch/csrc/api/include)
target_compile_definitions(nas_torch INTERFACE _GLIBCXX_USE_CXX11_ABI=1)
# libtorch.so exports an older std::filesystem of its own, whose remove_all() jumps to address 0. The loader takes the
# first library that has a symbol: libstdc++ must stand before it.
target_link_libraries(nas_torch INTERFACE stdc++)
foreach(_nas_lib torch torch_cpu c10)
  target_link_libraries(nas_torch INTERFACE ${NAS_LIBTORCH}/lib/lib${_nas_lib}.so)
endforeach()
set(NAS_TORCH_HAS_CUDA OFF)
if(EXISTS ${NAS_LIBTORCH}/lib/libtorch_cuda.so)
  set(NAS_TORCH_HAS_CUDA ON)
  # Nothing of ours calls symbols of libtorch_cuda, but loading it registers the CUDA operators. One item, so that CMake
  # cannot reorder it.
  target_link_libraries(nas_torch INTERFACE
    "-Wl,--no-as-needed,${NAS_LIBTORCH}/lib/libtorch_cuda.so,${NAS_LIBTORCH}/lib/libc10_cuda.so,--as-needed")
  # The wheel keeps the CUDA libraries in sibling folders.
  file(GLOB _nas_cuda_libs ${NAS_LIBTORCH}/../nvidia/*/lib)
  foreach(_nas_dir ${_nas_cuda_libs})
    target_link_options(nas_torch INTERFACE -Wl,-rpath-link,${_nas_dir})
  endforeach()
endif()
target_link_options(nas_torch INTERFACE
  -Wl,-rpath,${NAS_LIBTORCH}/lib -Wl,-rpath-link,${NAS_LIBTORCH}/lib -Wl,--allow-shlib-undefined)
message(STATUS "LibTorch: ${NAS_LIBTORCH} (CUDA ${NAS_TORCH_HAS_CUDA})")
