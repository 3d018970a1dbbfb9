import type { Command } from 'commander';
import * as z from 'zod';
import { Failure } from '../failure.ts';
import { columns } from './columns.ts';
import { type NodeSource, nodeOption, oneNode } from './node-source.ts';
import { type Format, outputOption, print } from './output.ts';

/** A frontend as an agent tells it (`isthmus agent services`). */
const ServiceRow = z.looseObject({
  /** Of the frontend in the maps of its node. */
  id: z.number(),
  /** `namespace/name`. */
  service: z.string(),
  kind: z.string(),
  /** '10.96.0.1:443/TCP'. */
  frontend: z.string(),
  /** 'internal': for clients of the cluster alone, where others get other backends. */
  scope: z.string(),
  backends: z.array(z.string()),
});
export type ServiceRow = z.infer<typeof ServiceRow>;

interface Flags {
  readonly node?: string;
  readonly output: Format;
}

/** `isthmus service …`: services as a node balances them. */
export function register(program: Command): void {
  const service = program.command('service').description('Show services as a node balances them');
  service
    .command('list')
    .description('List frontends and the backends they choose from')
    .addOption(outputOption())
    .addOption(nodeOption('the node whose view it is'))
    .action(async (flags: Flags, command: Command) => {
      const { node, rows } = await readServices(await oneNode(command, flags.node));
      noteNode(flags, node);
      await print(flags.output, rows, () => servicesText(rows));
    });
  service
    .command('get')
    .description('Show all frontends of a service')
    .argument('<service>', 'namespace/name, the name alone if it is clear, a frontend’s ID or its address')
    .addOption(outputOption())
    .addOption(nodeOption('the node whose view it is'))
    .action(async (wanted: string, flags: Flags, command: Command) => {
      const { node, rows } = await readServices(await oneNode(command, flags.node));
      const found = findService(rows, wanted, node);
      noteNode(flags, node);
      await print(flags.output, found, () => serviceText(found));
    });
}

async function readServices(source: NodeSource): Promise<{ node: string; rows: ServiceRow[] }> {
  const rows = z.array(ServiceRow).parse(JSON.parse(await source.run('agent', 'services', '-o', 'json')));
  const order = (a: ServiceRow, b: ServiceRow): number =>
    a.service === b.service ? a.id - b.id : a.service < b.service ? -1 : 1;
  return { node: source.node, rows: rows.sort(order) };
}

function noteNode({ node, output }: Flags, asked: string): void {
  if (node === undefined && output === 'table')
    process.stderr.write(`As node ${asked} has it; --node shows another.\n`);
}

/** Rows of the service that is meant. Throws Failure where there is none, or where a name stands for several. */
export function findService(
  rows: readonly ServiceRow[],
  wanted: string,
  node: string,
): readonly ServiceRow[] {
  const names = new Set(rows.map(each => each.service));
  const named = (name: string): readonly ServiceRow[] => rows.filter(each => each.service === name);
  if (names.has(wanted)) return named(wanted);
  const short = [...names].filter(each => each.slice(each.indexOf('/') + 1) === wanted);
  if (short.length > 1)
    throw new Failure(`several services are named ${wanted}`, {
      hint: `say which: ${short.sort().join(', ')}`,
    });
  if (short.length === 1) return named(short[0]!);
  const byFrontend = rows.find(
    each => String(each.id) === wanted || each.frontend === wanted || each.frontend.split('/')[0] === wanted,
  );
  if (byFrontend) return named(byFrontend.service);
  const host = (text: string): string => text.replace(/:\d+\/.*$/, '');
  const byAddress = rows.filter(each => host(each.frontend) === wanted);
  if (byAddress.length) return byAddress;
  throw new Failure(`node ${node} balances no service ${wanted}`, {
    hint: 'isthmus service list shows all. Headless services and those without an address have no frontend',
  });
}

/** Pure: what `service list` prints. */
export function servicesText(rows: readonly ServiceRow[]): string {
  return columns(
    ['ID', 'SERVICE', 'TYPE', 'FRONTEND', 'BACKENDS'],
    rows.map(each => [
      String(each.id),
      each.service,
      each.kind,
      each.frontend + (each.scope === 'internal' ? ' (inside)' : ''),
      each.backends.join('\n') || 'none: refused',
    ]),
    'no services',
  );
}

/** Pure: what `service get` prints. */
export function serviceText(rows: readonly ServiceRow[]): string {
  const services = [...new Set(rows.map(each => each.service))];
  const lines = services.flatMap(name => [
    `Service ${name}`,
    ...rows
      .filter(each => each.service === name)
      .flatMap(({ id, kind, frontend, scope, backends, service, ...others }) => [
        '',
        `  ${frontend}  ${kind}, ID ${id}${scope === 'internal' ? ', for clients inside the cluster' : ''}`,
        ...Object.entries(others).map(
          ([field, value]) => `    ${field}: ${typeof value === 'string' ? value : JSON.stringify(value)}`,
        ),
        ...(backends.length ? backends : ['no backend: connections are refused']).map(
          each => `    → ${each}`,
        ),
      ]),
  ]);
  return `${lines.join('\n')}\n`;
}
