/** Completion scripts of the shells. Each walks the words before the cursor to a node of the tree and offers what can follow. */
import { type Node, PROGRAM } from './tree.js';

/** A word that a POSIX shell takes as it is. */
const quote = (text: string) => `'${text.replaceAll("'", "'\\''")}'`;

/** Arms of `case "$at $word"` that lead from a node to the next. */
function steps(nodes: readonly Node[]): string {
  return nodes
    .filter(({ path }) => path !== '')
    .map(({ path }) => {
      const words = path.split(' ');
      const before = words.slice(0, -1).join(' ');
      return `      ${quote(`${before} ${words.at(-1)}`)}) at=${quote(path)} ;;`;
    })
    .join('\n');
}

const offered = ({ words, flags }: Node) => [...words.keys(), ...flags.flatMap(({ names }) => names)];

/** Arms of `case "$at:$previous"`: what stands after a flag that takes a value. */
function values(nodes: readonly Node[], offer: (values: readonly string[]) => string): string {
  return nodes
    .flatMap(({ path, flags }) =>
      [false, true].flatMap((known) => {
        const own = flags.filter((flag) => flag.takesValue && flag.values.length > 0 === known);
        const names = own.flatMap((flag) => flag.names.map((name) => quote(`${path}:${name}`)));
        return names.length === 0 ? [] : [`    ${names.join('|')}) ${offer(own[0]?.values ?? [])} ;;`];
      }),
    )
    .join('\n');
}

export function bashCompletion(nodes: readonly Node[]): string {
  const rest = nodes.map((node) => `    ${quote(node.path)}) words=${quote(offered(node).join(' '))} ;;`).join('\n');
  return `# bash: source <(${PROGRAM} completion bash)
_${PROGRAM}() {
  local current=\${COMP_WORDS[COMP_CWORD]} previous=\${COMP_WORDS[COMP_CWORD-1]} at='' words='' i
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "$at \${COMP_WORDS[i]}" in
${steps(nodes)}
      *) break ;;
    esac
  done
  case "$at:$previous" in
${values(nodes, (known) => (known.length === 0 ? 'return' : `COMPREPLY=($(compgen -f -W ${quote(known.join(' '))} -- "$current")); return`))}
  esac
  case "$at" in
${rest}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o default -F _${PROGRAM} ${PROGRAM}
`;
}

export function zshCompletion(nodes: readonly Node[]): string {
  const rest = nodes
    .map((node) => `    ${quote(node.path)}) offered=(${offered(node).map(quote).join(' ')}) ;;`)
    .join('\n');
  return `#compdef ${PROGRAM}
# zsh: source <(${PROGRAM} completion zsh), after compinit
_${PROGRAM}() {
  local at='' previous=\${words[CURRENT-1]} i
  local -a offered
  for ((i = 2; i < CURRENT; i++)); do
    case "$at \${words[i]}" in
${steps(nodes)}
      *) break ;;
    esac
  done
  case "$at:$previous" in
${values(nodes, (known) => (known.length === 0 ? '_files; return' : `compadd -- ${known.map(quote).join(' ')}; _files; return`))}
  esac
  case "$at" in
${rest}
  esac
  compadd -- $offered
  [[ $offered[1] == -* ]] && _files
}
(( $+functions[compdef] )) && compdef _${PROGRAM} ${PROGRAM}
`;
}

export function fishCompletion(nodes: readonly Node[]): string {
  const text = (value: string) => `'${value.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
  const lines = nodes.flatMap(({ path, words, flags }) => {
    const here = `complete -c ${PROGRAM} -n ${text(`__${PROGRAM}_at ${text(path)}`)}`;
    return [
      ...[...words].map(([word, description]) => `${here} -f -a ${text(word)} -d ${text(description)}`),
      ...flags.map(({ names, takesValue, description, values: known }) =>
        [
          here,
          ...names.map((name) => (name.startsWith('--') ? `-l ${name.slice(2)}` : `-s ${name.slice(1)}`)),
          ...(takesValue ? ['-r'] : []),
          ...(known.length > 0 ? [`-a ${text(known.join(' '))}`] : []),
          `-d ${text(description)}`,
        ].join(' '),
      ),
    ];
  });
  return `# fish: ${PROGRAM} completion fish | source
function __${PROGRAM}_at
    set -l at ''
    set -l given (commandline -opc)
    for word in $given[2..-1]
        switch "$at $word"
${nodes
  .filter(({ path }) => path !== '')
  .map(({ path }) => {
    const words = path.split(' ');
    return `            case ${text(`${words.slice(0, -1).join(' ')} ${words.at(-1)}`)}\n                set at ${text(path)}`;
  })
  .join('\n')}
            case '*'
                break
        end
    end
    test "$at" = "$argv[1]"
end
${lines.join('\n')}
`;
}
