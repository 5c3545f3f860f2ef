# CUDA, for the addon voicegrpo-cuda.node. Included before ggml, which then finds the toolkit and the language as they are set here.
#
# What a machine must have to load the result is libcublas alone. The runtime is linked in, and it opens the driver
# (libcuda.so.1) only when it is asked for a device, so that a missing driver is an answer and not a file that does not load.
set(VOICEGRPO_CUDA_ARCHITECTURES "" CACHE STRING
    "Compute capabilities to compile for, such as 80;90, in CMake's form; empty: those of the GPUs in this machine")
set(VOICEGRPO_FLAVOUR "-cuda")

if(VOICEGRPO_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES "${VOICEGRPO_CUDA_ARCHITECTURES}")
else()
  execute_process(COMMAND nvidia-smi --query-gpu=compute_cap --format=csv,noheader
                  OUTPUT_VARIABLE capabilities ERROR_QUIET RESULT_VARIABLE failed OUTPUT_STRIP_TRAILING_WHITESPACE)
  string(REGEX MATCHALL "[0-9]+\\.[0-9]+" capabilities "${capabilities}")
  if(failed OR NOT capabilities)
    message(FATAL_ERROR "No GPU was found here (nvidia-smi tells none), so it is not known what to compile for. "
                        "Name it: VOICEGRPO_CUDA_ARCHITECTURES=90 npm run build:cuda (80: A100, 86: RTX 30, 89: RTX 40 and L40, "
                        "90: H100 and H200, 120: RTX 50).")
  endif()
  list(TRANSFORM capabilities REPLACE "\\." "")
  list(REMOVE_DUPLICATES capabilities)
  set(CMAKE_CUDA_ARCHITECTURES "${capabilities}")
endif()

set(CMAKE_CUDA_STANDARD 17)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
enable_language(CUDA)
find_package(CUDAToolkit REQUIRED)
message(STATUS "voicegrpo: CUDA ${CUDAToolkit_VERSION} for ${CMAKE_CUDA_ARCHITECTURES}")

# ggml names the shared runtime. Two runtimes in one file would each have their own idea of the current device.
if(TARGET CUDA::cudart_static)
  get_target_property(static_runtime CUDA::cudart_static IMPORTED_LOCATION)
  set_target_properties(CUDA::cudart PROPERTIES IMPORTED_LOCATION "${static_runtime}" IMPORTED_SONAME "")
  set_property(TARGET CUDA::cudart APPEND PROPERTY INTERFACE_LINK_LIBRARIES CUDA::cudart_static)
endif()

set(GGML_CUDA ON CACHE BOOL "" FORCE)
set(GGML_CUDA_NO_VMM ON CACHE BOOL "" FORCE)   # else ggml links the driver itself
set(GGML_CUDA_GRAPHS ON CACHE BOOL "" FORCE)
set(GGML_CUDA_NCCL OFF CACHE BOOL "" FORCE)    # one GPU a process
# No graph of ours has ggml's flash attention (native/README.md says why), and its instances are most of what there is to compile.
set(GGML_CUDA_FA OFF CACHE BOOL "" FORCE)

# native/cuda/policy.cmake, where it is there, says that rollouts and gradients are computed on the GPU too; without it the addon
# says that only Whisper is, and --device cuda is refused for what needs more.
include(native/cuda/policy.cmake OPTIONAL)

# Kernels of ours, next to their CPU twins in native/core/.
function(voicegrpo_add_kernels target)
  file(GLOB kernels CONFIGURE_DEPENDS native/cuda/*.cu native/cuda/*.cpp)
  target_sources(${target} PRIVATE ${kernels})
  target_include_directories(${target} PUBLIC native/cuda)
  target_compile_definitions(${target} PUBLIC VOICEGRPO_CUDA $<$<BOOL:${VOICEGRPO_CUDA_POLICY}>:VOICEGRPO_CUDA_POLICY>)
  target_compile_options(${target} PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:-Wno-deprecated-gpu-targets>")
  target_link_libraries(${target} PUBLIC CUDA::cudart CUDA::cublas)
endfunction()
