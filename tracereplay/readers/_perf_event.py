"""Numbers of perf's interface that several readers need: include/uapi/linux/perf_event.h."""

# union perf_mem_data_src: mem_op
PERF_MEM_OP = 0x1F
PERF_MEM_OP_LOAD = 2
PERF_MEM_OP_STORE = 4
