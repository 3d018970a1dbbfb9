/**
 * Has the `kubernetes` plugin of a Corefile answer for the clusterset, too. Pure.
 * Source: CoreDNS, plugin `kubernetes`, option `multicluster` (1.12.2 and later).
 */

export interface Domains {
  /** `cluster.local`: the zone that the plugin answers for already. */
  readonly cluster: string;
  /** `clusterset.local`. */
  readonly clusterset: string;
}

/**
 * The Corefile with the clusterset's zone; the same text where it is there already.
 * @throws Error when no `kubernetes` plugin answers for the cluster's zone
 */
export function withClusterset(corefile: string, { cluster, clusterset }: Domains): string {
  const lines = corefile.split('\n');
  const blocks = blocksOf(lines);
  const plugin = blocks.find(
    ({ words, depth }) => depth === 1 && words[0] === 'kubernetes' && words.includes(cluster),
  );
  if (!plugin)
    throw new Error(
      `found no plugin "kubernetes … ${cluster} …" in the Corefile, expected one in a block of braces`,
    );
  const options = lines.slice(plugin.first + 1, plugin.last).map(words);
  if (options.some(each => each[0] === 'multicluster' && each.includes(clusterset))) return corefile;
  const indent = /^\s*/.exec(lines[plugin.first]!)![0];
  const head = lines[plugin.first]!;
  const changed = [...lines];
  if (!plugin.words.includes(clusterset))
    changed[plugin.first] = head.replace(cluster, `${cluster} ${clusterset}`);
  const option = `${indent}   multicluster ${clusterset}`;
  if (plugin.first === plugin.last)
    // It had no options: the line becomes a block.
    changed[plugin.first] = `${changed[plugin.first]!.trimEnd()} {\n${option}\n${indent}}`;
  else changed.splice(plugin.last, 0, option);
  // A server of named zones must be the clusterset's, too; one of all zones is.
  const server = blocks.find(
    each => each.depth === 0 && each.first < plugin.first && each.last > plugin.last,
  );
  const zone = server?.words.find(each => zoneOf(each) === cluster);
  const isServed = server?.words.some(each => ['.', clusterset].includes(zoneOf(each)));
  if (server && zone && !isServed) {
    const port = zone.slice(zone.indexOf(cluster) + cluster.length);
    changed[server.first] = lines[server.first]!.replace(zone, `${zone} ${clusterset}${port}`);
  }
  return changed.join('\n');
}

/** `cluster.local` of `dns://cluster.local:53` and `cluster.local.`. */
function zoneOf(key: string): string {
  const zone = key.replace(/^[a-z]+:\/\//, '').replace(/:\d+$/, '');
  return zone === '.' ? zone : zone.replace(/\.$/, '');
}

interface Block {
  /** Of its first line, without comments and brace. */
  readonly words: readonly string[];
  /** 0: a server; 1: a plugin. */
  readonly depth: number;
  readonly first: number;
  /** The line of its closing brace; its first line where it has no braces. */
  readonly last: number;
}

const words = (line: string): string[] =>
  line
    .replace(/(^|\s)#.*$/, '')
    .trim()
    .split(/[\s,]+/)
    .filter(each => each !== '');

function blocksOf(lines: readonly string[]): Block[] {
  const found: Block[] = [];
  const open: { words: string[]; first: number }[] = [];
  lines.forEach((line, at) => {
    const all = words(line);
    if (all.length === 0) return;
    if (all.at(-1) === '{') open.push({ words: all.slice(0, -1), first: at });
    else if (all[0] === '}') {
      const block = open.pop();
      if (block) found.push({ ...block, depth: open.length, last: at });
    } else found.push({ words: all, depth: open.length, first: at, last: at });
  });
  return found;
}
