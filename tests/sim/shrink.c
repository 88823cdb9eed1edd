/* See shrink.h. Delta debugging: a change is kept when the run still fails in the same way. */
#include "shrink.h"

#include <stdlib.h>
#include <string.h>

#define SHRINK_HANG_MS 10000u /* less patient than usual: a run that hangs is tried often */

/* Runs the plan, which this consumes. True: it fails in the same way, and now is the smallest. */
static bool try_plan(struct sim_shrink *shrink, struct sim_plan *plan)
{
	struct sim_child child;
	struct sim_verdict verdict;
	bool same = false;
	if (sim_real_ms() >= shrink->deadline_ms) {
		sim_plan_fini(plan);
		return false;
	}
	shrink->tries++;
	sim_child_start(&child, plan);
	while (!sim_child_ended(&child, SHRINK_HANG_MS, &verdict)) {
		if (sim_real_ms() >= shrink->deadline_ms) {
			sim_child_kill(&child);
			sim_plan_fini(plan);
			return false;
		}
		if (!sim_child_wait())
			shrink->deadline_ms = 0;
	}
	same = !verdict.passed && strcmp(verdict.kind, shrink->kind) == 0;
	free(verdict.output);
	if (!same) {
		sim_plan_fini(plan);
		return false;
	}
	shrink->failed_us = verdict.result.now_us;
	sim_plan_fini(&shrink->plan);
	shrink->plan = *plan;
	return true;
}

static void keep_faults_until(struct sim_plan *plan, uint64_t span_us)
{
	plan->span_us = span_us;
	while (plan->n_faults > 0 && plan->faults[plan->n_faults - 1].time_us >= span_us)
		plan->n_faults--;
}

static bool try_span(struct sim_shrink *shrink, uint64_t span_us)
{
	struct sim_plan plan;
	sim_plan_copy(&plan, &shrink->plan);
	keep_faults_until(&plan, span_us);
	return try_plan(shrink, &plan);
}

/* What comes after the failure is not needed. Of a failure in the calm half the time may do. */
static bool shrink_span(struct sim_shrink *shrink)
{
	uint64_t failed_us = shrink->failed_us - SIM_BEGIN_US;
	if (failed_us + 1 < shrink->plan.span_us)
		return try_span(shrink, failed_us + 1);
	bool changed = false;
	while (failed_us >= shrink->plan.span_us && shrink->plan.span_us > 1 &&
	       try_span(shrink, shrink->plan.span_us / 2)) {
		changed = true;
		failed_us = shrink->failed_us - SIM_BEGIN_US;
	}
	return changed;
}

static bool shrink_members(struct sim_shrink *shrink)
{
	static const unsigned sizes[] = {1, 3, 5};
	for (unsigned k = 0; k < sizeof sizes / sizeof *sizes && sizes[k] < shrink->plan.members; k++) {
		struct sim_plan plan;
		sim_plan_copy(&plan, &shrink->plan);
		plan.members = sizes[k];
		if (try_plan(shrink, &plan))
			return true;
	}
	return false;
}

static bool try_parameter(struct sim_shrink *shrink, unsigned number, uint64_t value)
{
	struct sim_plan plan;
	sim_plan_copy(&plan, &shrink->plan);
	*sim_plan_parameter(&plan, number) = value;
	return try_plan(shrink, &plan);
}

/* Quiet, or else half-way there. */
static bool shrink_parameters(struct sim_shrink *shrink)
{
	bool changed = false;
	for (unsigned k = 0; k < SIM_PARAMETER_COUNT; k++) {
		uint64_t value = *sim_plan_parameter(&shrink->plan, k);
		uint64_t quiet = sim_parameters[k].quiet;
		uint64_t half = value > quiet ? quiet + (value - quiet) / 2 : quiet - (quiet - value) / 2;
		if (value == quiet)
			continue;
		if (try_parameter(shrink, k, quiet) || (half != quiet && try_parameter(shrink, k, half)))
			changed = true;
	}
	return changed;
}

static bool try_without_kind(struct sim_shrink *shrink, enum sim_fault_kind kind)
{
	struct sim_plan plan;
	size_t n = 0;
	sim_plan_copy(&plan, &shrink->plan);
	for (size_t k = 0; k < plan.n_faults; k++)
		if (plan.faults[k].kind != kind)
			plan.faults[n++] = plan.faults[k];
	if (n == plan.n_faults) {
		sim_plan_fini(&plan);
		return false;
	}
	plan.n_faults = n;
	return try_plan(shrink, &plan);
}

static bool try_without(struct sim_shrink *shrink, size_t first, size_t n)
{
	struct sim_plan plan;
	sim_plan_copy(&plan, &shrink->plan);
	if (n > plan.n_faults - first)
		n = plan.n_faults - first;
	memmove(plan.faults + first, plan.faults + first + n, (plan.n_faults - first - n) * sizeof *plan.faults);
	plan.n_faults -= n;
	return try_plan(shrink, &plan);
}

/* Whole kinds first, then ever smaller pieces of the schedule. */
static bool shrink_faults(struct sim_shrink *shrink)
{
	size_t before = shrink->plan.n_faults;
	for (unsigned kind = 0; kind < SIM_FAULT_KINDS; kind++)
		(void)try_without_kind(shrink, (enum sim_fault_kind)kind);
	for (size_t piece = shrink->plan.n_faults; piece > 0; piece /= 2)
		for (size_t first = 0; first < shrink->plan.n_faults;)
			if (!try_without(shrink, first, piece))
				first += piece;
	return shrink->plan.n_faults < before;
}

void sim_shrink(struct sim_shrink *shrink)
{
	bool changed = true;
	while (changed && sim_real_ms() < shrink->deadline_ms) {
		changed = shrink_span(shrink);
		changed |= shrink_members(shrink);
		changed |= shrink_faults(shrink);
		changed |= shrink_parameters(shrink);
	}
}
