#compdef raftctl
# zsh completion for raftctl. Commands, options and words come from raftctl itself, ids of members from the configuration file.

_raftctl() {
	local -a lines fields commands options verbs ids
	local config=/etc/raft/raft.conf command= verb= word line table
	integer i
	table=$(${words[1]} help commands 2>/dev/null)
	for ((i = 2; i < CURRENT; i++)); do
		word=${words[i]}
		case $word in
		(--config) config=${words[i + 1]}; ((i++)) ;;
		(--config=*) config=${word#*=} ;;
		(-*) [[ $table != *"$word="* ]] || ((i++)) ;;
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
	(--id) ;;
	(--*)
		if [[ $table == *"${words[CURRENT - 1]}="* ]]; then
			_message "value of ${words[CURRENT - 1]}"
			return
		fi
		;;
	esac
	ids=(${(f)"$(sed -n 's/^\[member \([0-9]*\)\].*/\1/p' $config 2>/dev/null)"})
	if [[ ${words[CURRENT - 1]} == --id ]]; then
		compadd -a ids
		return
	fi

	lines=("${(@f)table}")
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
	elif [[ "$command $verb" == member\ (remove|promote|move|replace) && ${words[CURRENT - 1]} == $verb ]]; then
		compadd -a ids
	fi
}

_raftctl "$@"
