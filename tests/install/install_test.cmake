# cmake -DBUILD= -DEXAMPLE= -DCOMPILER= -DVERSION= -P install_test.cmake
set(work ${BUILD}/tests/install/work)
file(REMOVE_RECURSE ${work})
execute_process(COMMAND ${CMAKE_COMMAND} --install ${BUILD} --prefix ${work}/prefix
  OUTPUT_QUIET COMMAND_ERROR_IS_FATAL ANY)
file(GLOB_RECURSE torch_headers ${work}/prefix/*graph_module*)
if(torch_headers)
  message(FATAL_ERROR "expected no header of the floors with LibTorch, found ${torch_headers}")
endif()
execute_process(COMMAND ${CMAKE_COMMAND} -S ${EXAMPLE} -B ${work}/build -DCMAKE_CXX_COMPILER=${COMPILER}
    -DCMAKE_PREFIX_PATH=${work}/prefix -DCMAKE_FIND_PACKAGE_NO_PACKAGE_REGISTRY=ON
  OUTPUT_QUIET COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND ${CMAKE_COMMAND} --build ${work}/build OUTPUT_QUIET COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND ${work}/build/outside OUTPUT_VARIABLE said COMMAND_ERROR_IS_FATAL ANY)
# 1 -> 8 channels, 3 x 3 x 3, bias: 27 * 8 + 8 weights; 16^3 voxels.
if(NOT said MATCHES "VoxNAS ${VERSION}: 224 parameters, 884736 multiply-adds, 2 organs")
  message(FATAL_ERROR "expected the sizes of the example's network, found: ${said}")
endif()
