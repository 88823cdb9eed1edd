# bash completion for raftctl. Commands, options and words come from raftctl itself, ids of members from the configuration file.

# The field of a line of `raftctl help commands`: 2 options, 3 words.
_raftctl_field() {
	local name options words line
	while IFS= read -r line; do
		name=${line%%$'\t'*} line=${line#*$'\t'}
		options=${line%%$'\t'*} line=${line#*$'\t'}
		words=${line%%$'\t'*}
		if [[ $name == "$1" ]]; then
			[[ $2 == 2 ]] && echo "$options" || echo "$words"
		fi
	done <<<"$table"
}

_raftctl() {
	local cur prev words cword
	_init_completion -n = || return
	local config=/etc/raft/raft.conf command="" verb="" table i
	table=$("${words[0]}" help commands 2>/dev/null)
	for ((i = 1; i < cword; i++)); do
		case ${words[i]} in
		--config)
			config=${words[++i]}
			;;
		--config=*) config=${words[i]#*=} ;;
		-*) [[ $table != *"${words[i]}="* ]] || ((i++)) ;;
		*)
			if [[ -z $command ]]; then
				command=${words[i]}
			elif [[ -z $verb ]]; then
				verb=${words[i]}
			fi
			;;
		esac
	done

	case $prev in
	--config)
		_filedir conf
		return
		;;
	--data)
		_filedir -d
		return
		;;
	--id) ;;
	--*) [[ $table != *"$prev="* ]] || return ;;
	esac

	local ids
	ids=$(sed -n 's/^\[member \([0-9]*\)\].*/\1/p' "$config" 2>/dev/null)
	if [[ $prev == --id ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$ids" -- "$cur")
		return
	fi
	if [[ $cur == -* ]]; then
		local options
		options="$(_raftctl_field '' 2) $([[ -n $command ]] && _raftctl_field "$command" 2)"
		mapfile -t COMPREPLY < <(compgen -W "${options//=/}" -- "$cur")
		return
	fi
	if [[ -z $command ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$(cut -f 1 <<<"$table")" -- "$cur")
		return
	fi
	if [[ -z $verb ]]; then
		case $command in
		transfer) mapfile -t COMPREPLY < <(compgen -W "$ids" -- "$cur") ;;
		backup | restore) _filedir ;;
		*) mapfile -t COMPREPLY < <(compgen -W "$(_raftctl_field "$command" 3)" -- "$cur") ;;
		esac
		return
	fi
	case "$command $verb" in
	'member remove' | 'member promote' | 'member move' | 'member replace') [[ $prev == "$verb" ]] && mapfile -t COMPREPLY < <(compgen -W "$ids" -- "$cur") ;;
	esac
}

complete -F _raftctl raftctl
