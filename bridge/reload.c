/*
 * See reload.h.
 */
#include "bridge/reload.h"

#include "daemon/service/service.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_MAX 1024u

static void note_mistake(void *arg, const char *line)
{
	(void)arg;
	service_log(3, "config", "%s", line);
}

static bool starts_with(const char *name, const char *start)
{
	return strncmp(name, start, strlen(start)) == 0;
}

/* Of the members only where clients reach them; and who is one, the members tell. */
static bool is_ours(const char *name)
{
	if (starts_with(name, "[member "))
		return strstr(name, "] client") != NULL;
	return starts_with(name, "[bridge]") || starts_with(name, "[cluster]");
}

static void note_difference(void *arg, const char *name)
{
	char *later = arg;
	size_t used = strlen(later);
	if (is_ours(name))
		(void)snprintf(later + used, TEXT_MAX - used, "%s%s", used > 0 ? ", " : "", name); /* cut when too long */
}

static void take_over(const char *path, struct config *config, const struct config *fresh)
{
	char later[TEXT_MAX] = "";
	bool level = config->log_level != fresh->log_level;
	config_compare(config, fresh, note_difference, later);
	config->log_level = fresh->log_level;
	service_set_level((int)config->log_level);
	if (level || later[0] == '\0')
		service_log(5, "reloaded", "%s: %s", path, level ? "reloaded [raft] log_level" : "nothing has changed");
	if (later[0] != '\0')
		service_log(4, "restart-needed", "%s: takes effect when the bridge is started again: %s", path, later);
}

void bridge_reload(const char *path, struct config *config)
{
	struct config *fresh = calloc(1, sizeof *fresh);
	service_notify_reloading();
	if (fresh != NULL && config_read(path, fresh, note_mistake, NULL) == 0)
		take_over(path, config, fresh);
	else
		service_log(3, "reload-failed", "%s has mistakes: the bridge goes on with what it has", path);
	service_notify_ready();
	free(fresh);
}
