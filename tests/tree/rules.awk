# SPDX-License-Identifier: Apache-2.0
# The rules of the tree. Reads file names, one a line, relative to the root; prints file:line: rule.

function violation(file, line, rule) {
  print file ":" line ": " rule
  violations++
}

# "core/data/../random.cpp" -> "core/random.cpp"
function normal(path) {
  while (match(path, /[^\/]+\/\.\.\//)) path = substr(path, 1, RSTART - 1) substr(path, RSTART + RLENGTH)
  return path
}

# Every .cpp that a CMakeLists.txt names, whatever for.
function list_sources(file, text,    folder, words, count, i) {
  folder = file
  sub(/[^\/]*$/, "", folder)
  sub(/#.*/, "", text)
  count = split(text, words, /[^A-Za-z0-9_.\/+-]+/)
  for (i = 1; i <= count; i++) {
    if (words[i] ~ /\.cpp$/) listed[normal(folder words[i])] = 1
  }
  if (text ~ /file *\( *GLOB/) violation(file, line_number, "sources are listed, never globbed")
}

function check_include(file, line, text,    part, name, own) {
  if (file ~ /^tests\/package\/consumer\//) return  # an outside project, with includes of its own
  name = text
  sub(/^[ \t]*#[ \t]*include[ \t]*/, "", name)
  own = name ~ /^"/
  sub(/^["<]/, "", name)
  sub(/[">].*/, "", name)
  part = file
  sub(/\/.*/, "", part)

  if (own && name !~ /^tugline\//) violation(file, line, "includes of our own files read \"tugline/...\", not \"" name "\"")
  if (!own && name ~ /^tugline\//) violation(file, line, "includes of our own files stand in quotes: \"" name "\"")
  if (part == "core" && name ~ /^tugline\/(parallel|trainers)\//) violation(file, line, "core includes neither parallel nor trainers")
  if (part == "parallel" && name ~ /^tugline\/trainers\//) violation(file, line, "parallel does not include trainers")
  if (part ~ /^(core|parallel|trainers)$/ && name ~ /^tugline\/tests\//) violation(file, line, "only tests include tests")

  if (name == "mpi.h" && file !~ /^parallel\/mpi\/[^\/]*\.cpp$/ && file !~ /^tests\/(support|bench)\/[^\/]*\.cpp$/)
    violation(file, line, "mpi.h is for parallel/mpi/*.cpp, tests/support and tests/bench alone")
  if (name == "nccl.h" && file !~ /^parallel\/nccl\/[^\/]*\.cpp$/) violation(file, line, "nccl.h is for parallel/nccl/*.cpp alone")
  if (name == "hdf5.h" && file !~ /^core\/io\// && file !~ /^tests\/.*\.cpp$/)
    violation(file, line, "hdf5.h is for core/io alone, and for tests that make files")
  if (name == "tugline/core/io/hdf5_handle.hpp" && file !~ /^core\/io\//) violation(file, line, "HDF5 handles stay in core/io")
  if (name == "torch/torch.h" && part != "tests" && file ~ /\.hpp$/)
    violation(file, line, "headers include narrow LibTorch headers, not torch/torch.h")
}

function check_file(file,    text, licensed, limit) {
  line_number = 0
  licensed = 0
  while ((getline text < file) > 0) {
    line_number++
    if (line_number <= 2 && text ~ /SPDX-License-Identifier: Apache-2\.0/) licensed = 1
    if (file ~ /\.[ch]pp$/ && text ~ /^[ \t]*#[ \t]*include[ \t]*["<]/) check_include(file, line_number, text)
    if (file ~ /(^|\/)CMakeLists\.txt$/) list_sources(file, text)
  }
  close(file)
  if (!licensed) violation(file, 1, "no SPDX-License-Identifier line on top")
  limit = file == "CMakeLists.txt" ? 120 : file ~ /\.hpp$/ ? 250 : file ~ /\.cpp$/ ? 500 : 0
  if (limit && line_number > limit) violation(file, line_number, "longer than " limit " lines")
}

{
  files++
  if ($0 ~ /\.cpp$/) sources[++count_sources] = $0
  check_file($0)
}

END {
  for (i = 1; i <= count_sources; i++) {
    if (!(sources[i] in listed) && sources[i] !~ /^cmake\//) violation(sources[i], 1, "no CMakeLists.txt names this file")
  }
  if (files < 2) violation(".", 0, "found no files: wrong root?")
  exit violations > 0
}
