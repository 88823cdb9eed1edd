#compdef raftctl
# zsh completion for raftctl. Commands, options and words come from raftctl itself, ids of members from the configuration file.

_raftctl() {
	local -a lines fields commands options verbs ids
	local raftctl=${words[1]} config=/etc/raft/raft.conf command= verb= word line
	integer i
	for ((i = 2; i < CURRENT; i++)); do
		word=${words[i]}
		case $word in
		(--config) config=${words[i + 1]}; ((i++)) ;;
		(--config=*) config=${word#*=} ;;
		(--timeout|--id|--data|--from|--to|--name) ((i++)) ;;
		(-*) ;;
		(*)
			if [[ -z $command ]]; then
				command=$word
			elif [[ -z $verb ]]; then
				verb=$word
			fi
			;;
		esac
	done

	case ${words[CURRENT - 1]} in
	(--config) _files; return ;;
	(--data) _files -/; return ;;
	(--timeout) _message 'milliseconds'; return ;;
	(--from|--to) _message 'index of an entry'; return ;;
	(--name) _message 'name of the cluster'; return ;;
	esac
	ids=(${(f)"$(sed -n 's/^\[member \([0-9]*\)\].*/\1/p' $config 2>/dev/null)"})
	if [[ ${words[CURRENT - 1]} == --id ]]; then
		compadd -a ids
		return
	fi

	lines=("${(@f)$($raftctl help commands 2>/dev/null)}")
	for line in $lines; do
		fields=("${(@ps:\t:)line}")
		if [[ -n $fields[1] ]]; then
			commands+=("$fields[1]:$fields[4]")
		fi
		if [[ -z $fields[1] || $fields[1] == $command ]]; then
			options+=(${=fields[2]})
		fi
		if [[ -n $command && $fields[1] == $command ]]; then
			verbs=(${=fields[3]})
		fi
	done
	if [[ $PREFIX == -* ]]; then
		compadd -- ${options%=}
		return
	fi
	if [[ -z $command ]]; then
		_describe command commands
	elif [[ -z $verb ]]; then
		case $command in
		(transfer) compadd -a ids ;;
		(backup|restore) _files ;;
		(*) compadd -a verbs ;;
		esac
	elif [[ "$command $verb" == member\ (remove|promote|move) && ${words[CURRENT - 1]} == $verb ]]; then
		compadd -a ids
	fi
}

_raftctl "$@"
