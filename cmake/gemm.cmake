# The packed product is compiled once for each instruction set and picks one at run time (native/core/gemm.cpp), so each unit
# gets its own machine flags and the rest of the core none on its account. A unit whose flags the compiler lacks compiles to
# nothing. Fused multiply-add must be used everywhere or nowhere in a kernel, so that all its tiles round alike.
include(CheckCXXCompilerFlag)
set(VOICEGRPO_AVX2_FLAGS -mavx2 -mfma -mf16c)
set(VOICEGRPO_AVX512_FLAGS ${VOICEGRPO_AVX2_FLAGS} -mavx512f -mavx512vl -mavx512bw -mavx512dq)

set_property(SOURCE native/core/gemm_base.cpp native/core/gemm_avx2.cpp native/core/gemm_avx512.cpp
             APPEND PROPERTY COMPILE_OPTIONS -ffp-contract=fast)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64|i[3-6]86)$" AND NOT CMAKE_OSX_ARCHITECTURES MATCHES "arm64")
  foreach(isa AVX2 AVX512)
    string(REPLACE ";" " " flags "${VOICEGRPO_${isa}_FLAGS}")
    check_cxx_compiler_flag("${flags}" VOICEGRPO_HAVE_${isa})
    if(VOICEGRPO_HAVE_${isa})
      string(TOLOWER ${isa} name)
      set_property(SOURCE native/core/gemm_${name}.cpp APPEND PROPERTY COMPILE_OPTIONS ${VOICEGRPO_${isa}_FLAGS})
    endif()
  endforeach()
endif()
