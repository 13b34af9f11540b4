# SPDX-License-Identifier: Apache-2.0
# cmake -DINPUT=file -DOUTPUT=file.cpp -DNAME=kName -DHEADER=... -P embed_file.cmake: a file's bytes as a C++ array.
file(READ "${INPUT}" _hex HEX)
string(LENGTH "${_hex}" _digits)
math(EXPR _size "${_digits} / 2")
string(REGEX REPLACE "(..)" "0x\\1," _bytes "${_hex}")
file(WRITE "${OUTPUT}" "#include \"${HEADER}\"\n\nnamespace tugline {\nconst unsigned char ${NAME}[] = {${_bytes}};\n"
  "const std::size_t ${NAME}Size = ${_size};\n}  // namespace tugline\n")
