// SPDX-License-Identifier: Apache-2.0
// Stands for a profiler: NVTX loads it by NVTX_INJECTION64_PATH and calls it. trace() is what has been told so far.
#include <nvtx3/nvToolsExt.h>

#include <string>

namespace {

std::string g_trace;

int push(const char* name) {
  g_trace += std::string("(") + name;
  return 0;
}
int pop() {
  g_trace += ")";
  return 0;
}

}  // namespace

extern "C" int InitializeInjectionNvtx2(NvtxGetExportTableFunc_t get_table) {
  const auto* callbacks = static_cast<const NvtxExportTableCallbacks*>(get_table(NVTX_ETID_CALLBACKS));
  NvtxFunctionTable functions = nullptr;
  unsigned int size = 0;
  if (callbacks == nullptr || callbacks->GetModuleFunctionTable(NVTX_CB_MODULE_CORE, &functions, &size) == 0) return 0;
  *functions[NVTX_CBID_CORE_RangePushA] = reinterpret_cast<NvtxFunctionPointer>(&push);
  *functions[NVTX_CBID_CORE_RangePop] = reinterpret_cast<NvtxFunctionPointer>(&pop);
  return 1;
}

extern "C" const char* trace() { return g_trace.c_str(); }
