# Finds the whisper.cpp tree that carries whisper.cpp and ggml, and checks that it is the one this core was written for.
# Sets VOICEGRPO_CARRIER and VOICEGRPO_VERSION.
set(WHISPER_EXPECTED 1.9.1)
set(GGML_EXPECTED 0.15.1)

set(VOICEGRPO_CARRIER "")
if(VOICEGRPO_WHISPER_CPP_DIR)
  set(carrier_candidates "${VOICEGRPO_WHISPER_CPP_DIR}")
else()
  set(carrier_candidates "${CMAKE_CURRENT_SOURCE_DIR}/vendor/whisper.cpp"
                         "${CMAKE_CURRENT_SOURCE_DIR}/node_modules/nodejs-whisper/cpp/whisper.cpp")
endif()
foreach(candidate ${carrier_candidates})
  if(EXISTS "${candidate}/src/whisper.cpp")
    set(VOICEGRPO_CARRIER "${candidate}")
    break()
  endif()
endforeach()
if(NOT VOICEGRPO_CARRIER)
  string(REPLACE ";" "\n  " tried "${carrier_candidates}")
  message(FATAL_ERROR "No whisper.cpp source tree found. Tried:\n  ${tried}\n"
                      "Run `npm ci` (it installs nodejs-whisper, which carries the sources), or pass "
                      "-DVOICEGRPO_WHISPER_CPP_DIR=DIR with a checkout of whisper.cpp ${WHISPER_EXPECTED}.")
endif()

# set(<out> version) from lines such as `project("whisper.cpp" VERSION 1.9.1)`
function(read_version file regex out)
  file(READ "${file}" text)
  if(text MATCHES "${regex}")
    set(${out} "${CMAKE_MATCH_1}" PARENT_SCOPE)
  else()
    set(${out} "unknown" PARENT_SCOPE)
  endif()
endfunction()

read_version("${VOICEGRPO_CARRIER}/CMakeLists.txt" "VERSION ([0-9]+\\.[0-9]+\\.[0-9]+)" whisper_found)
foreach(part MAJOR MINOR PATCH)
  read_version("${VOICEGRPO_CARRIER}/ggml/CMakeLists.txt" "GGML_VERSION_${part} ([0-9]+)" ggml_${part})
endforeach()
set(ggml_found "${ggml_MAJOR}.${ggml_MINOR}.${ggml_PATCH}")

if(NOT whisper_found STREQUAL WHISPER_EXPECTED OR NOT ggml_found STREQUAL GGML_EXPECTED)
  set(carrier_problem "Expected whisper.cpp ${WHISPER_EXPECTED} with ggml ${GGML_EXPECTED} in ${VOICEGRPO_CARRIER}, "
                      "found whisper.cpp ${whisper_found} with ggml ${ggml_found}.")
  if(VOICEGRPO_ANY_WHISPER_CPP)
    message(WARNING ${carrier_problem})
  else()
    message(FATAL_ERROR ${carrier_problem} "\nRun `npm ci` for the pinned one, or build with "
                        "-DVOICEGRPO_ANY_WHISPER_CPP=ON to try this one all the same.")
  endif()
endif()
message(STATUS "voicegrpo: whisper.cpp ${whisper_found}, ggml ${ggml_found} from ${VOICEGRPO_CARRIER}")

read_version("${CMAKE_CURRENT_SOURCE_DIR}/package.json" "\"version\": \"([^\"]+)\"" VOICEGRPO_VERSION)
