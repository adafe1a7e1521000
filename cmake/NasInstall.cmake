# `cmake --install`: the floors without LibTorch as find_package(VoxNAS) with targets VoxNAS::core, VoxNAS::search, ...
# Kernels and data stay inside: with CUDA they hold device code, which a user's project would have to link for. The
# component `program` is all of it, LibTorch's floors too, as one shared library VoxNAS::program.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(NAS_EXPORTED nas_core nas_network nas_imaging nas_search nas_space nas_evolution nas_scaling nas_settings
  nas_supernet_search nas_strategies nas_report)

# The public headers: what a program outside is meant to include. What they include is installed with them and may change
# with any version.
set(NAS_PUBLIC_HEADERS
  nas/core/error.h nas/core/extent.h nas/core/json.h nas/core/rng.h nas/core/log.h
  nas/network/graph.h nas/network/operations.h nas/network/onnx.h nas/network/safetensors.h nas/network/summary.h
  nas/imaging/volume.h nas/imaging/nifti.h nas/imaging/dataset.h nas/imaging/doctor.h nas/imaging/fingerprint.h
  nas/imaging/metrics.h nas/imaging/phantom.h nas/imaging/resample.h
  nas/search/search_space.h nas/search/strategy.h nas/search/evaluator.h nas/search/recipe.h nas/search/run_search.h
  nas/results/results_db.h nas/search/statistics.h
  search_spaces/spaces.h search_spaces/planned_unet/plan.h search_spaces/planned_unet/planner.h
  nas/jobs/strategies/strategies.h nas/report/report.h)

# These targets and what of ours they link, PRIVATE too: archives need it when a program is linked.
function(nas_closure result)
  set(todo ${ARGN})
  set(all)
  while(todo)
    list(POP_FRONT todo target)
    if(TARGET ${target} AND NOT target IN_LIST all)
      list(APPEND all ${target})
      get_target_property(links ${target} LINK_LIBRARIES)
      foreach(link IN LISTS links)
        if(link MATCHES "^nas_")
          list(APPEND todo ${link})
        endif()
      endforeach()
    endif()
  endwhile()
  set(${result} ${all} PARENT_SCOPE)
endfunction()

nas_closure(exported ${NAS_EXPORTED})
foreach(target IN LISTS exported)
  string(REGEX REPLACE "^nas_" "" name ${target})
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${name})
endforeach()
install(TARGETS ${exported} EXPORT VoxNASTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}/voxnas)

if(NAS_WITH_TORCH)
  list(APPEND NAS_PUBLIC_HEADERS nas/cli/voxnas.h)
  install(FILES ${PROJECT_SOURCE_DIR}/nas/cli/voxnas.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/voxnas)
endif()
set(todo ${NAS_PUBLIC_HEADERS})
set(headers)
while(todo)
  list(POP_FRONT todo header)
  if(EXISTS ${PROJECT_SOURCE_DIR}/${header} AND NOT header IN_LIST headers)
    list(APPEND headers ${header})
    file(STRINGS ${PROJECT_SOURCE_DIR}/${header} lines REGEX "^#include \"")
    foreach(line IN LISTS lines)
      string(REGEX REPLACE "^#include \"([^\"]+)\".*" "\\1" inner "${line}")
      list(APPEND todo ${inner})
    endforeach()
  elseif(header IN_LIST NAS_PUBLIC_HEADERS AND NOT EXISTS ${PROJECT_SOURCE_DIR}/${header})
    message(FATAL_ERROR "cmake/NasInstall.cmake: there is no public header ${header}")
  endif()
endwhile()
foreach(header IN LISTS headers)
  get_filename_component(folder ${header} DIRECTORY)
  install(FILES ${header} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/voxnas/${folder})
endforeach()

set(folder ${CMAKE_INSTALL_LIBDIR}/cmake/VoxNAS)
if(NAS_WITH_TORCH)
  nas_closure(whole nas_light_verbs nas_torch_verbs)
  list(REMOVE_ITEM whole nas_torch)  # headers and LibTorch's own libraries
  list(TRANSFORM whole REPLACE "(.+)" "$<TARGET_FILE:\\1>" OUTPUT_VARIABLE archives)
  list(JOIN archives "," archives)
  # All of every archive: a user's program calls what no verb does. As an option it stands before the libraries, so
  # that nothing is taken from them first.
  target_link_options(nas_whole PRIVATE "-Wl,--whole-archive,${archives},--no-whole-archive")
  target_link_libraries(nas_whole INTERFACE $<INSTALL_INTERFACE:VoxNAS::torch>)
  target_include_directories(nas_whole INTERFACE $<INSTALL_INTERFACE:include/voxnas>)
  target_compile_features(nas_whole INTERFACE cxx_std_20)
  set_target_properties(nas_whole PROPERTIES OUTPUT_NAME voxnas EXPORT_NAME program
    INSTALL_RPATH "$ORIGIN;${NAS_LIBTORCH}/lib")
  install(TARGETS nas_whole EXPORT VoxNASProgramTargets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
  install(EXPORT VoxNASProgramTargets NAMESPACE VoxNAS:: DESTINATION ${folder})
endif()
install(EXPORT VoxNASTargets NAMESPACE VoxNAS:: DESTINATION ${folder})
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/VoxNASConfig.cmake.in ${PROJECT_BINARY_DIR}/VoxNASConfig.cmake
  INSTALL_DESTINATION ${folder})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/VoxNASConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/VoxNASConfig.cmake ${PROJECT_BINARY_DIR}/VoxNASConfigVersion.cmake DESTINATION ${folder})
