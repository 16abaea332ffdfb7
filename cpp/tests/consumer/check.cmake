# Installs the build, finds it from another project, runs that project, and sees that a wrong version is refused.
function(run)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "${ARGV}\n${output}")
  endif()
endfunction()

file(REMOVE_RECURSE ${WORK})
run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${WORK}/prefix --component cpp)
set(flags "")
if(SANITIZE)
  set(flags "-DCMAKE_C_FLAGS=-fsanitize=${SANITIZE}" "-DCMAKE_EXE_LINKER_FLAGS=-fsanitize=${SANITIZE}")
endif()
run(${CMAKE_COMMAND} -S ${SOURCE} -B ${WORK}/build -DCMAKE_PREFIX_PATH=${WORK}/prefix -DWANTED_VERSION=${VERSION} ${flags})
run(${CMAKE_COMMAND} --build ${WORK}/build)
run(${WORK}/build/consumer)
# From a project without C++, by the package and by pkg-config.
run(${CMAKE_COMMAND} -S ${SOURCE}_c -B ${WORK}/build_c -DCMAKE_PREFIX_PATH=${WORK}/prefix ${flags})
run(${CMAKE_COMMAND} --build ${WORK}/build_c)
run(${WORK}/build_c/c99_smoke)
run(${WORK}/build_c/c_sizes)
find_program(PKG_CONFIG pkg-config)
if(PKG_CONFIG AND NOT SANITIZE)
  file(GLOB_RECURSE found ${WORK}/prefix/*/legato.pc)
  cmake_path(GET found PARENT_PATH folder)
  set(ENV{PKG_CONFIG_PATH} ${folder})
  execute_process(COMMAND ${PKG_CONFIG} --cflags --libs "legato = ${VERSION}" OUTPUT_VARIABLE says
                  OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  separate_arguments(says UNIX_COMMAND "${says}")
  run(cc -std=c99 ${SOURCE}/../c99_smoke.c ${says} -lm -o ${WORK}/by_pkg_config)
  cmake_path(GET folder PARENT_PATH libraries)
  set(ENV{LD_LIBRARY_PATH} ${libraries})
  run(${WORK}/by_pkg_config)
endif()

# The edge example steadies a shaky clip, and says no to half of one.
set(shaky ${WORK}/shaky.y4m)
execute_process(COMMAND ${WORK}/build/example_y4m make OUTPUT_FILE ${shaky} COMMAND_ERROR_IS_FATAL ANY)
foreach(arguments "" "30;smooth")
  execute_process(COMMAND ${WORK}/build/stabilize_y4m ${arguments} INPUT_FILE ${shaky} OUTPUT_FILE ${WORK}/steady.y4m
                  COMMAND_ERROR_IS_FATAL ANY)
  run(${WORK}/build/example_y4m check ${shaky} ${WORK}/steady.y4m)
endforeach()
execute_process(COMMAND head -c 200000 ${shaky} COMMAND ${WORK}/build/stabilize_y4m
                RESULT_VARIABLE result OUTPUT_FILE ${WORK}/broken.y4m ERROR_VARIABLE error)
file(SIZE ${WORK}/broken.y4m size)  # a header of 44 bytes, and the two frames that came whole
if(result EQUAL 0 OR NOT error MATCHES "breaks off in a frame" OR NOT size EQUAL 192856)
  message(FATAL_ERROR "half a frame: ${result} ${error} ${size}")
endif()
execute_process(
  COMMAND ${CMAKE_COMMAND} -S ${SOURCE} -B ${WORK}/wrong -DCMAKE_PREFIX_PATH=${WORK}/prefix -DWANTED_VERSION=99.0
  RESULT_VARIABLE result OUTPUT_QUIET ERROR_QUIET)
if(result EQUAL 0)
  message(FATAL_ERROR "find_package accepted version 99.0")
endif()
