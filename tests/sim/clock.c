/* Members' clocks, from the world's time and back. */
#include "sim.h"

#include "daemon/assert.h"

#define MILLION 1000000
#define WALL_MS 1800000000000u /* the world begins in 2027 */

uint64_t sim_clock_us(const struct sim *sim, unsigned number)
{
	const struct sim_clock *clock = &sim->members[number].clock;
	int64_t passed = (int64_t)(sim->now_us - clock->base_us);
	return clock->local_base_us +
	       (uint64_t)(passed + passed / MILLION * clock->drift_ppm + passed % MILLION * clock->drift_ppm / MILLION);
}

uint64_t sim_clock_wall_ms(const struct sim *sim, unsigned number)
{
	return WALL_MS + sim->now_us / 1000 + (uint64_t)sim->members[number].clock.wall_offset_ms;
}

/* How long until the member's clock shows local_us: never too early. */
uint64_t sim_clock_until(const struct sim *sim, unsigned number, uint64_t local_us)
{
	uint64_t now_us = sim_clock_us(sim, number);
	uint64_t rate = (uint64_t)(MILLION + sim->members[number].clock.drift_ppm);
	if (local_us <= now_us)
		return 0;
	uint64_t left = local_us - now_us;
	return left / rate * MILLION + (left % rate * MILLION + rate - 1) / rate + 1;
}

/* From now on the clock runs at another rate, after it has leapt. */
void sim_clock_set(struct sim *sim, unsigned number, int64_t drift_ppm, uint64_t leap_us)
{
	struct sim_clock *clock = &sim->members[number].clock;
	raft_assert(drift_ppm > -MILLION);
	clock->local_base_us = sim_clock_us(sim, number) + leap_us;
	clock->base_us = sim->now_us;
	clock->drift_ppm = drift_ppm;
	sim->members[number].wake_us = 0; /* the wake-up under way comes at another time than was meant */
	sim_member_turn(sim, number);
}

/* The machine was switched off: the monotonic clock begins anew. */
void sim_clock_reset(struct sim *sim, unsigned number)
{
	struct sim_clock *clock = &sim->members[number].clock;
	clock->base_us = sim->now_us;
	clock->local_base_us = MILLION + sim_random_below(&sim->random_member, MILLION);
}
