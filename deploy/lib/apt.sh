# For scripts that download packages without changing the machine: . apt.sh

# own_apt DIR deb|deb-src [ARCH]: writes DIR/apt.conf, with which apt (APT_CONFIG=DIR/apt.conf) downloads as the
# machine does, from its mirrors with its keys, proxy and logins; its entries for packages stand for the kind that is
# asked for. All else is in DIR: lists, and what is installed, which is nothing. The machine's configuration and
# lists are neither changed nor needed.
own_apt() {
	mkdir -p "$1/parts" "$1/sources" "$1/lists/partial" "$1/cache/archives/partial"
	: >"$1/status"
	eval "$(apt-config shell list Dir::Etc::sourcelist/f entries Dir::Etc::sourceparts/d)"
	for f in "$list" "$entries"/*.list; do
		[ ! -f "$f" ] || sed -n "s/arch=[^] ]*//; s/\[ *\]//; s/^[[:space:]]*deb[[:space:]]/$2 /p" "$f" >>"$1/sources/machine.list"
	done
	for f in "$entries"/*.sources; do
		[ ! -f "$f" ] || sed "/^[Aa]rchitectures:/d; s/^[Tt]ypes:.*/Types: $2/" "$f" >"$1/sources/$(basename "$f")"
	done
	keep='Acquire|Dir::Etc::(netrc|trusted)'
	[ -n "${3:-}" ] || keep="$keep|APT::Architecture"
	{
		echo 'Acquire::Retries "1"; Acquire::http::Timeout "20"; Acquire::https::Timeout "20"; Acquire::Languages "none";'
		apt-config dump | grep -E "^($keep)" | grep -vE '^Acquire::(Languages|IndexTargets)'
		[ -z "${3:-}" ] || echo "APT::Architecture \"$3\"; APT::Architectures { \"$3\"; };"
		# No parts of the machine: what it runs after an update is for its own lists.
		echo "Dir::Etc::main \"/dev/null\"; Dir::Etc::parts \"$1/parts\";"
		echo "Dir::Etc::sourcelist \"/dev/null\"; Dir::Etc::sourceparts \"$1/sources\";"
		echo "Dir::State::lists \"$1/lists\"; Dir::State::extended_states \"$1/extended_states\";"
		# What is installed would choose the version.
		echo "Dir::State::status \"$1/status\"; Dir::Cache \"$1/cache\"; Dir::Log \"$1\";"
	} >"$1/apt.conf"
}

# own_apt_failed DIR LOG: "SITES: WHY", from its entries and its output, without logins.
own_apt_failed() {
	sites=$(cat "$1"/sources/* 2>/dev/null | grep -v '^[[:space:]]*#' | grep -oE '[a-z+]+:/[^][ ]+' |
		sed 's#//[^/@]*@#//#' | sort -u | paste -sd ' ')
	why=$(sed -n '/unsandboxed/d; s#//[^/@ ]*@#//#; s/^[EW]: //p' "$2" | head -n 1)
	echo "${sites:-anywhere (this machine has no entry for packages)}: ${why:-$(tail -n 1 "$2")}"
}
