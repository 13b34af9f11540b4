// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/apps/app.hpp"

int main(int argc, char** argv) { return tugline::App().run(argc, argv); }
