import type { Command } from 'commander';
import * as z from 'zod';
import { Failure } from '../failure.ts';
import { columns } from './columns.ts';
import { allNodes, askEach, type NodeSource, nodeOption } from './node-source.ts';
import { type Format, outputOption, print } from './output.ts';

/** An endpoint as its agent tells it; more fields than these may come. */
const EndpointRow = z.looseObject({
  id: z.number(),
  state: z.string(),
  pod: z.string(),
  ipv4: z.string().default(''),
  ipv6: z.string().default(''),
  identity: z.number(),
  labels: z.string(),
});

const EndpointHistory = z.object({
  id: z.number(),
  pod: z.string(),
  ipv4: z.string().default(''),
  gone: z.boolean(),
  events: z.array(z.object({ time: z.string(), message: z.string() })),
});

export type NodeEndpoint = z.infer<typeof EndpointRow> & { readonly node: string };
export type NodeHistory = z.infer<typeof EndpointHistory> & { readonly node: string };

interface Flags {
  readonly node?: string;
  readonly output: Format;
}

const WANTED = 'namespace/pod, the pod’s name alone if it is clear, its address, or its ID (with --node)';

/** `isthmus endpoint …`: the pods that nodes connect. */
export function register(program: Command): void {
  const endpoint = program.command('endpoint').description('Show the pods that nodes connect');
  endpoint
    .command('list')
    .description('List the pods of all nodes, or of one')
    .addOption(outputOption())
    .addOption(nodeOption('this node alone'))
    .action(async (flags: Flags, command: Command) => {
      const rows = await read(await allNodes(command, flags.node), 'endpoints', EndpointRow);
      await print(flags.output, rows, () => endpointsText(rows));
    });
  endpoint
    .command('get')
    .description('Show all that is known of a pod’s endpoint')
    .argument('<endpoint>', WANTED)
    .addOption(outputOption())
    .addOption(nodeOption('the node it is on'))
    .action(async (wanted: string, flags: Flags, command: Command) => {
      const rows = await read(await allNodes(command, flags.node), 'endpoint-details', EndpointRow);
      const found = findEndpoint(rows, wanted);
      await print(flags.output, found, () => endpointText(found));
    });
  endpoint
    .command('log')
    .description('Show what became of a pod’s endpoint, and when; also of one that is gone')
    .argument('<endpoint>', WANTED)
    .addOption(outputOption())
    .addOption(nodeOption('the node it is on'))
    .action(async (wanted: string, flags: Flags, command: Command) => {
      const rows = await read(await allNodes(command, flags.node), 'endpoint-log', EndpointHistory);
      const living = rows.filter(each => !each.gone);
      const of = (among: readonly NodeHistory[]): readonly NodeHistory[] =>
        among.filter(each => isMeant(each, wanted));
      // A pod of the same name may have been there before: all of its lives are told, the last one last.
      const found = of(rows).length ? of(rows) : [findEndpoint(living, wanted)];
      await print(flags.output, found, () => historyText(found));
    });
}

async function read<T>(
  sources: readonly NodeSource[],
  what: string,
  schema: z.ZodType<T>,
): Promise<(T & { readonly node: string })[]> {
  const lists = await askEach(sources, async ({ node, run }) => {
    const rows = z.array(schema).parse(JSON.parse(await run('agent', what, '-o', 'json')));
    return rows.map(each => ({ node, ...each }));
  });
  return lists.flat();
}

interface Named {
  readonly node: string;
  readonly id: number;
  readonly pod: string;
  readonly ipv4?: string;
  readonly ipv6?: string;
}

const isMeant = ({ id, pod, ipv4, ipv6 }: Named, wanted: string): boolean =>
  pod === wanted ||
  pod.slice(pod.indexOf('/') + 1) === wanted ||
  ipv4 === wanted ||
  ipv6 === wanted ||
  String(id) === wanted;

/** The one endpoint that is meant. Throws Failure where there is none, or more than one. */
export function findEndpoint<T extends Named>(rows: readonly T[], wanted: string): T {
  const exact = rows.filter(each => each.pod === wanted);
  const found = exact.length ? exact : rows.filter(each => isMeant(each, wanted));
  if (found.length === 1) return found[0]!;
  if (found.length > 1)
    throw new Failure(`several endpoints fit ${wanted}`, {
      hint: `say which: ${found.map(each => `${each.pod || each.id} on ${each.node}`).join(', ')}`,
    });
  throw new Failure(`no endpoint fits ${wanted}`, {
    hint: 'isthmus endpoint list shows all; pods in their node’s own network (hostNetwork) have none',
  });
}

/** Pure: what `endpoint list` prints. */
export function endpointsText(rows: readonly NodeEndpoint[]): string {
  const v6 = rows.some(each => each.ipv6 !== '');
  const sorted = [...rows].sort((a, b) => (a.node === b.node ? a.id - b.id : a.node < b.node ? -1 : 1));
  return columns(
    ['NODE', 'ID', 'POD', 'IPV4', ...(v6 ? ['IPV6'] : []), 'STATE', 'IDENTITY', 'LABELS'],
    sorted.map(each => [
      each.node,
      String(each.id),
      each.pod,
      each.ipv4,
      ...(v6 ? [each.ipv6] : []),
      each.state,
      String(each.identity),
      shortLabels(each.labels),
    ]),
    'no pods are connected',
  );
}

/** The pod's own labels, without those that say what the other columns say. */
function shortLabels(labels: string): string {
  return labels
    .split(/[;,]\s*/)
    .filter(each => each !== '' && !/io\.kubernetes\.pod\.namespace|io\.cilium\.k8s\./.test(each))
    .join(' ');
}

/** Pure: what `endpoint get` prints. */
export function endpointText({ node, pod, id, ...rest }: NodeEndpoint): string {
  const lines = Object.entries({ node, ...rest }).flatMap(([name, value]) => {
    const text = Array.isArray(value) ? value.join(', ') : String(value);
    return text === '' ? [] : [`  ${name.padEnd(12)} ${text}`];
  });
  return `Endpoint ${id}${pod ? ` of pod ${pod}` : ''}\n${lines.join('\n')}\n`;
}

/** Pure: what `endpoint log` prints. */
export function historyText(rows: readonly NodeHistory[]): string {
  return rows
    .map(({ node, id, pod, gone, events }) => {
      const title = `Endpoint ${id}${pod ? ` of pod ${pod}` : ''} on ${node}${gone ? ', gone' : ''}`;
      return `${title}\n${events.map(each => `  ${each.time}  ${each.message}`).join('\n')}\n`;
    })
    .join('\n');
}
