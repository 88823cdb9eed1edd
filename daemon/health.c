/*
 * Is this member well? One list of checks, for /healthz and /readyz and for `raftctl health`. What this must not know: who
 * asks.
 */
#include "server.h"

#include "kv/admin.h"

/* Entries committed and not applied. One turn of the loop applies up to 8192: what is left beyond two turns' worth is no
 * moment's work. */
#define HEALTH_LAG_MAX 16384u

uint64_t server_failed_checks(const struct server *server)
{
	const struct replicator_status *status = &server->status;
	uint64_t failed = 0;

	if (replicator_oldest_write_age_us(server->replicator) >= SERVER_DISK_ALIVE_US)
		failed |= KV_CHECK_DISK;
	if (server->loader != NULL)
		failed |= KV_CHECK_RECOVERED;
	if (status->blank)
		failed |= KV_CHECK_MEMBER;
	if (status->leader == 0)
		failed |= KV_CHECK_LEADER;
	if (status->commit - status->applied > HEALTH_LAG_MAX)
		failed |= KV_CHECK_APPLIED;
	return failed;
}

uint64_t server_alarms(const struct server *server, const struct replicator_metrics *metrics)
{
	uint64_t stalled_us = (uint64_t)server->config->election_timeout_max_ms * 1000u;

	return (metrics->disk_full ? KV_ALARM_DISK_FULL : 0) |
	       (metrics->write_age_us > stalled_us ? KV_ALARM_DISK_STALLED : 0);
}

bool server_check(void *arg, bool ready, struct metrics_text *text)
{
	struct server *server = arg;
	replicator_get_status(server->replicator, &server->status, sizeof server->status);
	const struct replicator_status *status = &server->status;
	uint64_t checks = ready ? KV_CHECKS_READY : KV_CHECKS_LIVE;
	uint64_t failed = server_failed_checks(server) & checks;

	metrics_line(text, "[+]loop: turns");
	for (uint64_t check = 1; check <= KV_CHECKS_READY; check <<= 1) {
		if ((check & checks) != 0)
			metrics_line(text, "[%c]%s", (check & failed) != 0 ? '-' : '+',
				     kv_check_text(check, (check & failed) != 0));
	}
	metrics_line(text, "member %llu, term %llu, leader %llu, commit %llu, applied %llu",
		     (unsigned long long)status->id, (unsigned long long)status->term,
		     (unsigned long long)status->leader, (unsigned long long)status->commit,
		     (unsigned long long)status->applied);
	return failed == 0;
}
