/*
 * What the kernel knows of this process, for metrics and status.
 */
#ifndef RAFT_KV_METRICS_PROCESS_H
#define RAFT_KV_METRICS_PROCESS_H

#include "daemon/metrics/text.h"

uint64_t metrics_now_us(void);	       /* monotonic */
uint64_t metrics_resident_bytes(void); /* 0: /proc is hidden by the sandbox */
uint64_t metrics_cpu_us(void);	       /* user and system time */

/* Three families by which dashboards know every process. started_us: when it began, by metrics_now_us. */
void metrics_process(struct metrics_text *text, uint64_t started_us);

#endif
