/*
 * Before a directory becomes a new cluster: members of the configuration that run and belong to a cluster already would meet it.
 * Only a member that does not answer can be overlooked. What this must not know: what the directory is made of.
 */
#include "raftctl.h"
#include "raftctl_data.h"
#include "raftctl_link.h"

#include <inttypes.h>
#include <string.h>

#define PATIENCE_US 700000u

/* The member that this reply shows to have a history; NULL: it shows none. */
static const struct config_member *find_history(const struct ctl_links *links, const struct ctl_event *event)
{
	struct kv_member_status status;
	if (event->news != CTL_NEWS_REPLY || event->answer.answer != KV_ANSWER_OK ||
	    !kv_status_decode(event->answer.data, event->answer.size, &status) ||
	    (status.term == 0 && status.last == 0))
		return NULL;
	return links->links[event->link].member;
}

static const struct config_member *look_around(struct ctl_links *links)
{
	uint64_t end_us = ctl_now_us() + PATIENCE_US;
	unsigned finished = 0;
	struct ctl_event event;
	while (finished < links->n && ctl_links_wait(links, end_us, &event) == 0 && event.news != CTL_NEWS_NONE) {
		const struct config_member *found = find_history(links, &event);
		if (found != NULL)
			return found;
		if (event.news == CTL_NEWS_UP)
			(void)ctl_links_send(links, event.link, KV_REQUEST_STATUS, NULL, 0);
		finished += event.news == CTL_NEWS_REPLY || event.news == CTL_NEWS_DOWN;
	}
	return NULL;
}

int ctl_data_check_neighbours(const struct ctl *ctl, uint64_t id)
{
	static struct config others;
	struct ctl_links links;
	const struct config_member *found = NULL;
	others = ctl->config;
	others.n_members = 0;
	for (unsigned k = 0; k < ctl->config.n_members; k++)
		if (ctl->config.members[k].id != id)
			others.members[others.n_members++] = ctl->config.members[k];
	if (others.n_members == 0 || ctl->options.force)
		return CTL_OK;
	int r = ctl_links_open(&others, 0, &links);
	if (r == 0)
		found = look_around(&links);
	ctl_links_close(&links);
	if (r < 0)
		return CTL_FAILED; /* and it was said why */
	if (found == NULL)
		return CTL_OK;
	return ctl_fail(CTL_FAILED,
			"member %" PRIu64
			" at %s runs and belongs to cluster %s: two clusters of one name must not meet. "
			"Stop it and empty its directory, or give this cluster another name; --force goes on",
			found->id, found->client, ctl->config.cluster_name);
}
