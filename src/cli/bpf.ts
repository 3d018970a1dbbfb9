import type { Command } from 'commander';
import {
  conntrackTable,
  countRows,
  endpointTable,
  ipcacheTable,
  type Listing,
  lbRows,
  lbTable,
  metricsTable,
  type NodeRow,
  natTable,
  nodeRows,
  tunnelRows,
  tunnelTable,
} from './bpf-views.ts';
import { columns } from './columns.ts';
import { parseMapLines } from './map-lines.ts';
import { allNodes, askEach, type NodeSource, nodeOption, oneNode } from './node-source.ts';
import { type Format, outputOption, print } from './output.ts';

interface Flags {
  readonly node?: string;
  readonly output: Format;
  readonly expired?: boolean;
}

/** `isthmus bpf …`: what the maps of the datapath hold, read on the nodes. */
export function register(program: Command): void {
  const bpf = program.command('bpf').description('Show what the maps of the datapath hold on nodes');

  list(bpf, 'lb', 'Service load balancing: frontends and their backends', async (flags, command) => {
    const source = await one(command, flags);
    const [frontends, slots, backends] = await Promise.all(
      ['frontends', 'slots', 'backends'].map(map => read(source, map)),
    );
    const rows = lbRows(frontends!, slots!, backends!);
    const data = rows.map(({ row, ...each }) => ({ ...each, key: row.key, value: row.value }));
    return { data, table: () => lbTable(rows) };
  });
  flows(bpf, 'ct', 'conntrack', 'Connection tracking: the flows of pods', conntrackTable);
  flows(bpf, 'nat', 'nat', 'Translated flows: services, NodePorts, masquerade', natTable);
  list(bpf, 'ipcache', 'Prefixes: whose they are and behind which node', async (flags, command) => {
    const rows = await read(await one(command, flags), 'ipcache');
    return { data: rows, table: () => ipcacheTable(rows) };
  });
  list(bpf, 'endpoint', 'Addresses that nodes serve: their pods’ and their own', async (flags, command) => {
    const rows = await readAll(await allNodes(command, flags.node), 'endpoints');
    return { data: rows, table: () => endpointTable(rows) };
  });
  list(bpf, 'metrics', 'Packets and bytes by what became of them', async (flags, command) => {
    const sources = await allNodes(command, flags.node);
    const counts = await askEach(sources, async source => {
      const { header, rows } = await lines(source, 'metrics');
      return countRows(source.node, header, rows);
    });
    return { data: counts.flat(), table: () => metricsTable(counts.flat()) };
  });
  list(bpf, 'tunnel', 'Other ends of the tunnel, and what is behind them', async (flags, command) => {
    const source = await one(command, flags);
    const [nodes, ipcache] = await Promise.all([read(source, 'nodes'), read(source, 'ipcache')]);
    const rows = tunnelRows(nodes, ipcache);
    return { data: rows, table: () => tunnelTable(rows) };
  });
}

interface Shown {
  readonly data: unknown;
  readonly table: () => Listing;
}

function list(
  parent: Command,
  name: string,
  description: string,
  show: (flags: Flags, command: Command) => Promise<Shown>,
  extend: (command: Command) => Command = command => command,
): void {
  extend(
    parent
      .command(name)
      .description(description)
      .command('list')
      .description(description)
      .addOption(outputOption())
      .addOption(nodeOption('the node to look at')),
  ).action(async (flags: Flags, command: Command) => {
    const { data, table } = await show(flags, command);
    await print(flags.output, data, () => {
      const { titles, rows } = table();
      return columns(titles, rows);
    });
  });
}

/** Maps whose rows expire: those that have are in the table only if asked for. */
function flows(
  parent: Command,
  name: string,
  map: string,
  description: string,
  table: (rows: readonly NodeRow[]) => Listing,
): void {
  list(
    parent,
    name,
    description,
    async (flags, command) => {
      const rows = await readAll(await allNodes(command, flags.node), map);
      const living = flags.expired ? rows : rows.filter(each => (each.expiresIn ?? 0) >= 0);
      // What lives longest first: connections before what was asked once.
      const sorted = living.sort((a, b) => (b.expiresIn ?? 0) - (a.expiresIn ?? 0));
      return { data: sorted, table: () => table(sorted) };
    },
    command => command.option('--expired', 'show rows, too, that count no more and wait to be overwritten'),
  );
}

/** A node for what is the same on all of them; which it was is said where the user has not chosen. */
async function one(command: Command, flags: Flags): Promise<NodeSource> {
  const source = await oneNode(command, flags.node);
  if (flags.node === undefined && flags.output === 'table')
    process.stderr.write(`As node ${source.node} has it; --node shows another.\n`);
  return source;
}

async function lines(source: NodeSource, map: string): Promise<ReturnType<typeof parseMapLines>> {
  return parseMapLines(await source.run('agent', 'map', map));
}

async function read(source: NodeSource, map: string): Promise<NodeRow[]> {
  const { header, rows } = await lines(source, map);
  return nodeRows(source.node, header, rows);
}

async function readAll(sources: readonly NodeSource[], map: string): Promise<NodeRow[]> {
  return (await askEach(sources, source => read(source, map))).flat();
}
