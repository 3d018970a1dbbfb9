import { type Command, Option } from 'commander';
import * as z from 'zod';
import { askAgent } from '../agent/api-client.ts';
import { AgentStatus } from '../api/agent-status.ts';
import { Failure } from '../failure.ts';
import { columns } from './columns.ts';
import { write } from './output.ts';
import { unreachableText } from './unreachable-text.ts';

type Output = 'summary' | 'json';

/** `isthmus agent …`: questions to the agent of this node, asked inside its pod or on the node. */
export function register(program: Command): void {
  const agent = program
    .command('agent')
    .description('Look into the agent of this node (inside an agent pod)');
  view(agent, 'status', 'Say what works and what does not', '/v1/status', text =>
    statusText(AgentStatus.parse(JSON.parse(text))),
  );
  view(agent, 'endpoints', 'List the pods this node connects', '/v1/endpoints', listing);
  view(agent, 'services', 'List frontends and the backends they choose from', '/v1/services', text =>
    listing(text, 'service'),
  );
  view(agent, 'endpoint-details', 'All that is known of each pod', '/v1/endpoint-details', listing);
  view(agent, 'endpoint-log', 'What became of each pod', '/v1/endpoint-log', text => text);
  view(agent, 'ipcache', 'List who has which address and where', '/v1/ipcache', listing);
  view(agent, 'nodes', 'List the nodes of all clusters', '/v1/nodes', listing);
  view(
    agent,
    'probes',
    'List the nodes and clusters this node probes, and whether they answer',
    '/v1/probes',
    text => listing(text, 'node'),
  );
  agent
    .command('metrics')
    .description('Print the metrics of the agent')
    .action(async () => void process.stdout.write(await ask('GET', '/v1/metrics')));
  agent
    .command('map')
    .argument('[name]', 'as in bpf/lib/maps.h; without it: the names there are')
    .description('Print a map of the datapath as lines of JSON')
    .action(async (name?: string) => {
      // Read here, not by the agent: a large map must not keep it from its work.
      const { bpfFolderOfNode, mapLines, mapNames } = await import('./map-dump.ts');
      const bpffs = bpfFolderOfNode();
      if (name === undefined)
        return write(
          mapNames(bpffs)
            .map(each => `${each}\n`)
            .join(''),
        );
      let text = '';
      for (const line of mapLines(bpffs, name)) {
        text += `${line}\n`;
        if (text.length < 1 << 16) continue;
        await write(text);
        text = '';
      }
      await write(text);
    });
  agent
    .command('cleanup')
    .description('Take the node back to what it was before; the agent then stays idle')
    .option('--without-agent', 'do it here and now, where no agent runs')
    .option('--bpf-root <folder>', 'where the bpffs is mounted, with --without-agent', '/sys/fs/bpf')
    .action(async (flags: { withoutAgent?: boolean; bpfRoot: string }) => {
      if (flags.withoutAgent) await cleanHere(flags.bpfRoot);
      else await ask('POST', '/v1/cleanup');
      process.stdout.write('The node is clean.\n');
    });
}

async function cleanHere(bpffs: string): Promise<void> {
  // Loaded only here: it brings native code that no other command needs.
  const [{ cleanNode }, { cniPaths }] = await Promise.all([
    import('../agent/cleanup.ts'),
    import('../agent/cni-config.ts'),
  ]);
  const { failed } = cleanNode({ bpffs, cniPaths });
  if (failed.length) throw new Failure(`the node is not clean: ${failed.join('; ')}`);
}

function view(
  parent: Command,
  name: string,
  description: string,
  path: string,
  toText: (json: string) => string,
): void {
  parent
    .command(name)
    .description(description)
    .addOption(
      new Option('-o, --output <format>', 'how to print it').choices(['summary', 'json']).default('summary'),
    )
    .action(async (flags: { output: Output }) => {
      const text = await ask('GET', path);
      process.stdout.write(flags.output === 'json' ? text : toText(text));
    });
}

async function ask(method: 'GET' | 'POST', path: string): Promise<string> {
  try {
    return await askAgent(method, path);
  } catch (error) {
    throw new Failure(error instanceof Error ? error.message : String(error), {
      hint: 'this command runs where an agent does: kubectl -n kube-system exec ds/isthmus -- isthmus agent …',
      cause: error,
    });
  }
}

function statusText(status: AgentStatus): string {
  const lines = [`Agent ${status.version} on node ${status.node}`];
  if (status.endpoints)
    lines.push(`Pods      ${status.endpoints.ready} of ${status.endpoints.total} connected`);
  if (status.datapath) {
    const { socketServices, tunnelUnpack } = status.datapath;
    lines.push(
      `Services  ${socketServices === 'all' ? 'at the socket' : 'at the socket for the node, packet by packet for pods'}`,
      `Tunnel    unpacked by the ${tunnelUnpack}`,
    );
  }
  for (const cluster of status.clusters ?? [])
    lines.push(
      `Cluster   ${cluster.name}: ${cluster.state}${cluster.status === cluster.state ? '' : `, ${cluster.status}`}`,
    );
  for (const each of status.unreachableNodes ?? [])
    lines.push(`Node      ${each.node}: ${unreachableText(each)}`);
  for (const each of status.warnings) lines.push(`Warning   ${each}`);
  for (const each of status.errors) lines.push(`Error     ${each}`);
  if (status.errors.length === 0) lines.push('OK');
  return `${lines.join('\n')}\n`;
}

const rows = z.array(
  z.record(z.string(), z.union([z.string(), z.number(), z.boolean(), z.array(z.string())])),
);

/** A list of flat objects as a table: a column per field. */
function listing(text: string, by = 'id'): string {
  const list = rows.parse(JSON.parse(text)).sort((a, b) => compare(a[by], b[by]));
  const head = Object.keys(list[0] ?? {});
  const cells = list.map(row =>
    head.map(name => {
      const value = row[name] ?? '';
      return Array.isArray(value) ? value.join('\n') : String(value);
    }),
  );
  return columns(
    head.map(each => each.toUpperCase()),
    cells,
    'nothing',
  );
}

const compare = (a: unknown, b: unknown): number =>
  typeof a === 'number' && typeof b === 'number' ? a - b : String(a) < String(b) ? -1 : a === b ? 0 : 1;
