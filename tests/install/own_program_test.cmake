# cmake -DBUILD= -DEXAMPLE= -DCOMPILER= -P own_program_test.cmake
# Installs VoxNAS, builds the example outside against the component `program` and searches a phantom with the example's
# own strategy, loss and network block.
set(work ${BUILD}/tests/install/own_program)
file(REMOVE_RECURSE ${work})
set(ENV{VOXNAS_DATA_CACHE} ${work}/cache)
execute_process(COMMAND ${CMAKE_COMMAND} --install ${BUILD} --prefix ${work}/prefix
  OUTPUT_QUIET COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND ${CMAKE_COMMAND} -S ${EXAMPLE} -B ${work}/build -DCMAKE_CXX_COMPILER=${COMPILER}
    -DCMAKE_PREFIX_PATH=${work}/prefix -DCMAKE_FIND_PACKAGE_NO_PACKAGE_REGISTRY=ON
  OUTPUT_QUIET COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND ${CMAKE_COMMAND} --build ${work}/build OUTPUT_QUIET COMMAND_ERROR_IS_FATAL ANY)
set(own ${work}/build/own)
execute_process(COMMAND ${own} phantom ${work}/data --cases 6 --size 16x20x18
  OUTPUT_QUIET ERROR_QUIET COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND ${own} automl ${EXAMPLE}/training.json --data ${work}/data --controller near_best --trials 3
    --workers cpu:cpu --threads 1 --device cpu -o ${work}/run
  OUTPUT_QUIET ERROR_VARIABLE log COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND ${own} report ${work}/run --json OUTPUT_VARIABLE report ERROR_QUIET COMMAND_ERROR_IS_FATAL ANY)
string(JSON kind GET "${report}" recipe stages 0 kind)
string(JSON trials LENGTH "${report}" trials)
if(NOT kind STREQUAL "near_best" OR trials LESS 4)  # three of the search, the baseline, the winner if it is another
  message(FATAL_ERROR "expected a stage near_best and 4 trials at least, found ${kind} and ${trials}:\n${log}")
endif()
math(EXPR last "${trials} - 1")
foreach(i RANGE ${last})
  string(JSON status GET "${report}" trials ${i} status)
  if(NOT status STREQUAL "done")
    message(FATAL_ERROR "expected every trial to be done, found ${status}:\n${log}")
  endif()
endforeach()
file(READ ${work}/run/trials/1/training.json training)
string(JSON loss GET "${training}" loss name)
file(READ ${work}/run/model/network.json network)
if(NOT loss STREQUAL "log_cosh_dice" OR NOT network MATCHES "\"swish\"")
  message(FATAL_ERROR "expected the example's loss and block in the run, found ${loss} and ${network}")
endif()
execute_process(COMMAND ${own} predict ${work}/run/model ${work}/data/imagesTr ${work}/predictions --device cpu
  OUTPUT_QUIET ERROR_QUIET COMMAND_ERROR_IS_FATAL ANY)
