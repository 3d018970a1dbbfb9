import { setTimeout as pause } from 'node:timers/promises';
import { type Command, InvalidArgumentError, Option } from 'commander';
import * as z from 'zod';
import { Failure } from '../failure.ts';
import { Node } from '../kube/objects.ts';
import { pathOf, resources } from '../kube/resource.ts';
import { installedValues } from './helm.ts';
import { upgradeIsthmus } from './install.ts';
import { type ClusterChoice, chooseCluster, clientOf, findContext } from './kubeconfig.ts';
import { checkMeshIdentity, readMeshIdentity } from './mesh-access.ts';
import { connectClusters, connectedClusters, disconnectClusters } from './mesh-connect.ts';
import { isMeshWell, type MeshStatus, meshStatus } from './mesh-status.ts';
import { meshStatusText } from './mesh-status-text.ts';
import { refreshMeshVolumes } from './refresh-volumes.ts';
import { rotateAuthority } from './rotate-ca.ts';
import { parseDuration } from './status.ts';
import { withdrawExports } from './withdraw.ts';

const serviceTypes = ['LoadBalancer', 'NodePort', 'ClusterIP'] as const;
type ServiceType = (typeof serviceTypes)[number];

/** `isthmus clustermesh …`: join clusters into one network. Commands and flags are named as Cilium's. */
export function register(program: Command): void {
  const mesh = program.command('clustermesh').description('Join clusters into one network');

  waiting(mesh.command('enable'))
    .description('Make this cluster ready to be joined: run clustermesh-apiserver with its etcd')
    .addOption(
      new Option(
        '--service-type <type>',
        'how other clusters reach it; found by itself on known clouds',
      ).choices(serviceTypes),
    )
    .addOption(
      new Option(
        '--enable-kvstoremesh [boolean]',
        'copy remote clusters into the own etcd, from which agents then read them; =false: read each directly',
      )
        .preset('true')
        .argParser(parseFlag),
    )
    .action(async (flags: EnableFlags, command: Command) => {
      await enable(chooseCluster(command), flags);
    });

  mesh
    .command('disable')
    .description('Take clustermesh-apiserver away and forget all remote clusters')
    .action(async (_flags: object, command: Command) => {
      await disable(chooseCluster(command));
    });

  mesh
    .command('connect')
    .description('Connect this cluster with others, in both directions')
    .addOption(destinations())
    .option(
      '--destination-endpoint <ip:port...>',
      'where the other cluster is reached, instead of what is found',
    )
    .option('--source-endpoint <ip:port...>', 'where this cluster is reached, instead of what is found')
    .addOption(
      new Option('--connection-mode <mode>', 'mesh: the destinations with each other, too')
        .choices(['bidirectional', 'mesh'])
        .default('bidirectional'),
    )
    .addOption(new Option('--allow-mismatching-ca').hideHelp())
    .addOption(new Option('--parallel <number>').hideHelp())
    .action(async (flags: ConnectFlags, command: Command) => {
      const { local, others } = choose(command, flags.destinationContext);
      if (flags.destinationEndpoint && others.length > 1)
        throw new Failure('--destination-endpoint goes with one --destination-context', { exitCode: 2 });
      await connectClusters({
        local,
        destinations: others,
        localEndpoints: flags.sourceEndpoint,
        destinationEndpoints: flags.destinationEndpoint,
        mesh: flags.connectionMode === 'mesh',
        report: say,
      });
    });

  mesh
    .command('disconnect')
    .description('Disconnect this cluster from others, in both directions')
    .addOption(destinations())
    .action(async (flags: Pick<ConnectFlags, 'destinationContext'>, command: Command) => {
      const { local, others } = choose(command, flags.destinationContext, 'tolerant');
      await disconnectClusters({ local, destinations: others, report: say });
    });

  mesh
    .command('rotate-ca')
    .description('Give this cluster a new CA and all certificates anew, while its mesh goes on')
    .addOption(destinations())
    .action(async (flags: Pick<ConnectFlags, 'destinationContext'>, command: Command) => {
      const { local, others } = choose(command, flags.destinationContext);
      await rotateAuthority({ cluster: local, others, whenWell, report: say });
    });

  waiting(mesh.command('status'))
    .description('Show which nodes are connected to which clusters, and what keeps them from it')
    .addOption(
      new Option('-o, --output <format>', 'how to print it').choices(['summary', 'json']).default('summary'),
    )
    .action(async (flags: WaitFlags & { output: 'summary' | 'json' }, command: Command) => {
      const cluster = chooseCluster(command);
      const status = await watchStatus(cluster, flags.wait ? flags.waitDuration : 0);
      process.stdout.write(
        flags.output === 'json' ? `${JSON.stringify(status, null, 2)}\n` : meshStatusText(status),
      );
      if (isMeshWell(status)) return;
      if (flags.wait)
        throw new Failure(
          `the mesh is not complete after ${flags.waitDuration / 1000} s: ${firstProblem(status)}`,
        );
      process.exitCode = 1;
    });
}

interface WaitFlags {
  readonly wait?: boolean;
  readonly waitDuration: number;
}

interface EnableFlags extends WaitFlags {
  readonly serviceType?: ServiceType;
  readonly enableKvstoremesh?: boolean;
}

function parseFlag(text: string): boolean {
  if (text !== 'true' && text !== 'false') throw new InvalidArgumentError('expected true or false');
  return text === 'true';
}

interface ConnectFlags {
  readonly destinationContext: readonly string[];
  readonly destinationEndpoint?: readonly string[];
  readonly sourceEndpoint?: readonly string[];
  readonly connectionMode: 'bidirectional' | 'mesh';
}

function waiting(command: Command): Command {
  return command
    .option('--wait', 'wait until everything is ready')
    .addOption(
      new Option('--wait-duration <time>', 'how long to wait, such as 90s or 5m')
        .default(900_000, '15m')
        .argParser(parseDuration),
    );
}

function destinations(): Option {
  return new Option(
    '--destination-context <name>',
    'context of the other cluster (also found as isthmus-<name> or kind-<name>); several by commas or again',
  )
    .argParser((value: string, before: readonly string[] = []) => [
      ...before,
      ...value.split(',').filter(Boolean),
    ])
    .makeOptionMandatory();
}

function choose(
  command: Command,
  names: readonly string[],
  mode: 'strict' | 'tolerant' = 'strict',
): { readonly local: ClusterChoice; readonly others: readonly ClusterChoice[] } {
  const local = chooseCluster(command);
  const contexts = names.map(name => {
    try {
      return findContext(name, local.kubeconfig);
    } catch (error) {
      // A cluster that is gone from the kubeconfig can still be taken off the list by its name.
      if (mode === 'tolerant') return name;
      throw error;
    }
  });
  if (contexts.includes(local.context))
    throw new Failure(`context ${local.context} is named as both ends, expected another cluster`, {
      hint: '--context names this cluster, --destination-context the other one',
      exitCode: 2,
    });
  return { local, others: [...new Set(contexts)].map(context => ({ ...local, context })) };
}

const say = (line: string): void => {
  process.stdout.write(`${line}\n`);
};

async function enable(cluster: ClusterChoice, flags: EnableFlags): Promise<void> {
  const client = clientOf(cluster);
  let type = flags.serviceType;
  try {
    checkMeshIdentity(await readMeshIdentity(client, cluster), cluster.context);
    if (type === undefined) {
      const { items } = await client.get(pathOf(resources.nodes), z.object({ items: z.array(Node) }));
      const provider = items.map(node => node.spec.providerID?.split(':')[0]).find(Boolean) ?? '';
      type = ['aws', 'gce', 'azure'].includes(provider) ? 'LoadBalancer' : 'NodePort';
      say(
        `🔮 ${type === 'NodePort' ? 'No cloud with load balancers is known here' : `Nodes are of ${provider}`}: using service type ${type}`,
      );
    }
  } finally {
    client.close();
  }
  const before = await installedValues({ cluster, report: say });
  const service = { type, ...(type === 'LoadBalancer' ? cloudAnnotations(before) : {}) };
  const mirror = flags.enableKvstoremesh;
  const apiserver = { service, ...(mirror === undefined ? {} : { kvstoremesh: { enabled: mirror } }) };
  const document = { clustermesh: { useAPIServer: true, config: { enabled: true }, apiserver } };
  await upgradeIsthmus({ cluster, values: { document }, report: () => undefined });
  // Where the mesh was there before, the way to the other clusters may be another one now.
  if (mirror !== undefined) await refresh(cluster);
  say('✅ Clustermesh was enabled; clustermesh-apiserver is starting');
  if (!flags.wait) return;
  const status = await watchStatus(cluster, flags.waitDuration, each => each.apiserverReady);
  if (!status.apiserverReady)
    throw new Failure(`clustermesh-apiserver is not ready: ${firstProblem(status)}`);
  say('✅ clustermesh-apiserver is ready');
}

async function disable(cluster: ClusterChoice): Promise<void> {
  const connected = await connectedClusters(cluster);
  await withdrawExports(cluster, say);
  const document = { clustermesh: { useAPIServer: false, config: { enabled: false, clusters: [] } } };
  await upgradeIsthmus({ cluster, values: { document }, report: () => undefined });
  await refresh(cluster);
  say('✅ Clustermesh was disabled');
  for (const name of connected)
    say(
      `ℹ️  ${name} still has this cluster on its list: isthmus clustermesh disconnect --context ${name} --destination-context ${cluster.context}`,
    );
}

/** Load balancers inside the cloud's own network, unless the user has said something about it. */
function cloudAnnotations(values: Readonly<Record<string, unknown>>): object {
  const given = JSON.stringify(values).includes('load-balancer');
  return given
    ? {}
    : {
        annotations: {
          'service.beta.kubernetes.io/aws-load-balancer-scheme': 'internal',
          'service.beta.kubernetes.io/azure-load-balancer-internal': 'true',
          'networking.gke.io/load-balancer-type': 'Internal',
        },
      };
}

/** The status as soon as it is well, or when the time is over. Says on stderr what it waits for. */
async function watchStatus(
  cluster: ClusterChoice,
  duration: number,
  done: (status: MeshStatus) => boolean = isMeshWell,
): Promise<MeshStatus> {
  const client = clientOf(cluster);
  const end = performance.now() + duration;
  let said = '';
  let refreshed = performance.now();
  try {
    for (;;) {
      const status = await meshStatus(client, cluster);
      if (done(status) || performance.now() > end) return status;
      const problem = firstProblem(status).replace(/\d+ s\b/g, '… s');
      if (problem !== said) process.stderr.write(`⌛ Waiting: ${problem}\n`);
      said = problem;
      // A kubelet that saw the pods before it saw the Secret would write it only minutes later.
      const unconfigured = Object.values(status.clusters).some(each => each.configured < status.nodes.total);
      if (unconfigured && performance.now() - refreshed > 3000) {
        refreshed = performance.now();
        await refreshMeshVolumes(client, cluster.namespace);
      }
      await pause(500);
    }
  } finally {
    client.close();
  }
}

async function whenWell(cluster: ClusterChoice): Promise<void> {
  const status = await watchStatus(cluster, 180_000);
  if (!isMeshWell(status)) throw new Failure(`cluster ${cluster.context}: ${firstProblem(status)}`);
}

function firstProblem(status: MeshStatus): string {
  const [error] = status.errors;
  if (status.problems[0]) return status.problems[0];
  if (!status.apiserverReady) return 'Deployment clustermesh-apiserver is not ready';
  if (error) return `${error.node || error.pod} and cluster ${error.cluster}: ${error.message}`;
  return `${status.nodes.connected} of ${status.nodes.total} nodes are connected`;
}

async function refresh(cluster: ClusterChoice): Promise<void> {
  const client = clientOf(cluster);
  try {
    await refreshMeshVolumes(client, cluster.namespace);
  } finally {
    client.close();
  }
}
