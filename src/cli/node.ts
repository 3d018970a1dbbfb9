import type { Command } from 'commander';
import * as z from 'zod';
import { columns } from './columns.ts';
import { nodeOption, oneNode } from './node-source.ts';
import { type Format, outputOption, print } from './output.ts';

/** A node as an agent knows it; more fields than these may come. */
const NodeRow = z.looseObject({ cluster: z.string(), name: z.string() });
export type NodeRow = z.infer<typeof NodeRow>;

/** `isthmus node list`: the nodes of all clusters, as one of them knows them. */
export function register(program: Command): void {
  const node = program.command('node').description('Show the nodes of all clusters');
  node
    .command('list')
    .description('List the nodes of this cluster and of those it is joined with')
    .addOption(outputOption())
    .addOption(nodeOption('the node whose view it is'))
    .action(async (flags: { node?: string; output: Format }, command: Command) => {
      const source = await oneNode(command, flags.node);
      const rows = z.array(NodeRow).parse(JSON.parse(await source.run('agent', 'nodes', '-o', 'json')));
      if (flags.node === undefined && flags.output === 'table')
        process.stderr.write(`As node ${source.node} knows them; --node asks another.\n`);
      await print(flags.output, rows, () => nodesText(rows));
    });
}

/** Pure: what `node list` prints: a column for each field any row has. */
export function nodesText(rows: readonly NodeRow[]): string {
  const fields = [...new Set(rows.flatMap(each => Object.keys(each)))].filter(field =>
    rows.some(each => each[field] !== '' && each[field] !== undefined),
  );
  const sorted = [...rows].sort((a, b) =>
    a.cluster === b.cluster ? (a.name < b.name ? -1 : 1) : a.cluster < b.cluster ? -1 : 1,
  );
  return columns(
    fields.map(each => each.toUpperCase()),
    sorted.map(row => fields.map(field => String(row[field] ?? ''))),
    'no nodes are known',
  );
}
