import { readFileSync } from 'node:fs';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { parse as parseYaml } from 'yaml';
import * as z from 'zod';
import { Failure } from '../failure.ts';
import { isNotFound } from '../kube/status.ts';
import { removeMeshSlices } from '../operator/remove-mesh-slices.ts';
import { findApiServer } from './api-server.ts';
import { cleanMissedNodes, cleanNodes, reportMissed } from './clean-nodes.ts';
import { readAgentTemplate } from './clean-pod.ts';
import { isWell } from './cluster-status.ts';
import { type ChartValues, chartFolder, helm, releaseName } from './helm.ts';
import { type ClusterChoice, chooseCluster, clientOf } from './kubeconfig.ts';
import { releaseServices } from './release-services.ts';
import { waitDurationOption, waitForStatus } from './status.ts';
import { withdrawExports } from './withdraw.ts';

/** What install and upgrade take. */
export interface ReleaseOptions {
  readonly cluster: ClusterChoice;
  readonly values?: ChartValues;
  /** Helm releases kept for `helm rollback`. */
  readonly historyMax?: number;
  /** Takes each line of progress. */
  readonly report: (line: string) => void;
  readonly signal?: AbortSignal | undefined;
}

export interface UpgradeOptions extends ReleaseOptions {
  /** Forget the values of the installed release and start from the chart's. */
  readonly resetValues?: boolean;
}

/**
 * Installs the chart of this package into a cluster: finds how its nodes reach the API server, and leaves the rest
 * to Helm. Resolves when Kubernetes has taken the objects; `isthmus status --wait` waits for the pods.
 * Throws Failure when a value is wrong or Isthmus is there already.
 */
export async function installIsthmus(options: ReleaseOptions): Promise<void> {
  const { report, cluster } = options;
  const document = await detectedValues(options);
  report(`✨ Installing the chart ${releaseName} ${chartVersion()} into ${cluster.namespace}`);
  await helm(['install', releaseName, chartFolder, '--create-namespace', withoutOpenApi], {
    ...options,
    values: { ...options.values, document: merge(document, options.values?.document) },
  });
  report('✅ Isthmus was installed; its pods are starting. Follow them with: isthmus status --wait');
}

/**
 * Helm would first have the API server make its OpenAPI document, which costs a new one seconds, to check what our
 * tests check with every change. The API server itself checks the objects all the same.
 */
const withoutOpenApi = '--disable-openapi-validation';

/** Brings the release to this package's chart, or changes its values; those set before stay unless reset. */
export async function upgradeIsthmus(options: UpgradeOptions): Promise<void> {
  const { report, resetValues = false, historyMax = 10 } = options;
  report(`✨ Upgrading to the chart ${releaseName} ${chartVersion()}`);
  const keep = resetValues ? '--reset-values' : '--reset-then-reuse-values';
  const document = resetValues ? await detectedValues(options) : undefined;
  const values = document
    ? { ...options.values, document: merge(document, options.values?.document) }
    : options.values;
  await helm(
    ['upgrade', releaseName, chartFolder, keep, withoutOpenApi, '--history-max', String(historyMax)],
    {
      ...options,
      values,
    },
  );
  report('✅ Isthmus was upgraded');
}

/**
 * Leaves the mesh, cleans every node through its agent, removes the release, and cleans the nodes whose agent did not
 * answer by a pod. CRDs, their objects and the CA stay.
 */
export async function uninstallIsthmus(options: Omit<ReleaseOptions, 'values'>): Promise<void> {
  const { report, cluster, signal } = options;
  await withdrawExports(cluster, report, signal);
  const template = await readAgentTemplate(cluster);
  const missed = await cleanNodes({ cluster, report, signal });
  report(`🔥 Removing the Helm release ${releaseName}`);
  // The chart's own hook would clean the nodes a second time.
  await helm(['uninstall', releaseName, '--ignore-not-found', '--no-hooks'], options);
  await releaseServices(cluster, report);
  await removeSlices(cluster, report);
  await cleanMissedNodes(missed, template, { cluster, report, signal });
  report('✅ Isthmus was uninstalled');
  report('ℹ️  Its CRDs (cilium.io) with their objects, its CA and its certificates stay, for another install');
}

/** The operator is gone, and with it whoever knew what other clusters have. */
async function removeSlices(cluster: ClusterChoice, report: (line: string) => void): Promise<void> {
  const client = clientOf(cluster);
  try {
    const removed = await removeMeshSlices(client);
    if (removed) report(`🧹 EndpointSlices of other clusters removed: ${removed}`);
  } finally {
    client.close();
  }
}

/** For those who remove the release themselves: names the nodes that are left, since agents may still start there. */
async function cleanThroughAgents(options: Omit<ReleaseOptions, 'values'>): Promise<void> {
  reportMissed(await cleanNodes(options), options.report);
}

/**
 * What the chart's Job before `helm uninstall` does. A Job that somebody applied with the rest of what
 * `helm template` prints must not take the network away.
 */
export async function cleanNodesAsHook(job: string, options: Omit<ReleaseOptions, 'values'>): Promise<void> {
  const { cluster, report } = options;
  const client = clientOf(cluster);
  try {
    const { metadata } = await client.get(
      `/apis/batch/v1/namespaces/${cluster.namespace}/jobs/${job}`,
      ManagedObject,
    );
    if (!metadata.managedFields.some(each => each.manager.includes('helm')))
      return report(`ℹ️  Job ${job} was not made by Helm: nothing is uninstalled, the nodes stay as they are`);
    await withdrawExports(cluster, report);
    await cleanThroughAgents(options);
  } finally {
    client.close();
  }
}

const ManagedObject = z.object({
  metadata: z.object({ managedFields: z.array(z.object({ manager: z.string() })) }),
});

export function register(program: Command): void {
  withValues(program.command('install'))
    .description('Install Isthmus in a cluster with its Helm chart')
    .option('--dry-run', 'print the objects and change nothing')
    .action(async (flags: Flags, command: Command) => {
      const options = { cluster: chooseCluster(command), values: valuesOf(flags), report: printLine };
      if (flags.dryRun) return printManifest(options);
      await installIsthmus(options);
      await waitIfAsked(flags, options.cluster);
    });
  withValues(program.command('upgrade'))
    .description('Upgrade Isthmus, or change its Helm values')
    .option('--reset-values', "forget the values set before and start from the chart's")
    .action(async (flags: Flags, command: Command) => {
      const options = { cluster: chooseCluster(command), values: valuesOf(flags), report: printLine };
      await upgradeIsthmus({ ...options, resetValues: flags.resetValues ?? false });
      await waitIfAsked(flags, options.cluster);
    });
  program
    .command('uninstall')
    .description('Remove Isthmus from a cluster and clean its nodes')
    .option('--nodes-only', 'clean the nodes and leave the rest to Helm; the agents stay idle')
    .addOption(new Option('--as-hook <job>', "clean the nodes if this Job is Helm's").hideHelp())
    .action(async (flags: { nodesOnly?: boolean; asHook?: string }, command: Command) => {
      const options = { cluster: chooseCluster(command), report: printLine };
      if (flags.asHook !== undefined) await cleanNodesAsHook(flags.asHook, options);
      else await (flags.nodesOnly ? cleanThroughAgents(options) : uninstallIsthmus(options));
    });
}

interface Flags {
  readonly set?: readonly string[];
  readonly values?: readonly string[];
  readonly wait?: boolean;
  readonly waitDuration: number;
  readonly dryRun?: boolean;
  readonly resetValues?: boolean;
}

function withValues(command: Command): Command {
  return command
    .option('--set <key=value>', 'a Helm value; may be given several times', collectValue)
    .option('-f, --values <file>', 'a file of Helm values; may be given several times', collect)
    .option('--wait', 'wait until every component is ready')
    .addOption(waitDurationOption());
}

const collect = (value: string, before: readonly string[] = []): readonly string[] => [...before, value];

const collectValue = (value: string, before?: readonly string[]): readonly string[] => {
  // Helm says so much later, when other commands have run on what is missing.
  if (!/^[^=]+=/.test(value)) throw new InvalidArgumentError('expected KEY=VALUE, such as cluster.name=us.');
  return collect(value, before);
};

const valuesOf = ({ set, values }: Flags): ChartValues => ({ set, files: values });

const printLine = (line: string): void => {
  process.stdout.write(`${line}\n`);
};

async function waitIfAsked(flags: Flags, cluster: ClusterChoice): Promise<void> {
  if (!flags.wait) return;
  const status = await waitForStatus({ cluster, duration: flags.waitDuration, report: printLine });
  if (!isWell(status))
    throw new Failure('not every component is ready', { hint: 'isthmus status shows what is missing' });
}

/** The objects as Helm would send them, for `kubectl apply` or a look. */
async function printManifest(options: ReleaseOptions): Promise<void> {
  const quiet = { ...options, report: () => {} };
  const document = await detectedValues(quiet);
  const { gitVersion } = await clientOf(options.cluster).get(
    '/version',
    z.object({ gitVersion: z.string() }),
  );
  const values = { ...options.values, document: merge(document, options.values?.document) };
  process.stdout.write(
    await helm(['template', releaseName, chartFolder, '--kube-version', gitVersion], { ...quiet, values }),
  );
}

/**
 * What the cluster itself tells: the API server's address, and how it is called. Only what the caller has not
 * set, since --set and files must win.
 */
async function detectedValues(options: ReleaseOptions): Promise<Record<string, unknown>> {
  const { report, cluster } = options;
  const given = givenValues(options.values);
  const client = clientOf(cluster);
  try {
    const needsServer = !given('k8sServiceHost') || given('k8sServiceHost') === 'auto';
    const [server, hasKubeProxy] = await Promise.all([
      needsServer ? findApiServer(client) : undefined,
      client.get('/apis/apps/v1/namespaces/kube-system/daemonsets/kube-proxy', z.object({})).then(
        () => true,
        error => {
          if (isNotFound(error)) return false;
          throw error;
        },
      ),
    ]);
    report(`🔮 Kubernetes at ${client.server.origin} (context ${cluster.context})`);
    const name = given('cluster.name') ?? nameFromContext(cluster.context);
    report(`ℹ️  Using cluster name "${name}", id ${given('cluster.id') ?? 0}`);
    if (server)
      report(`🔮 Nodes reach the API server at ${server.host}:${server.port} (from ${server.source})`);
    if (hasKubeProxy)
      report(
        '⚠️  kube-proxy runs here; Isthmus serves the services itself: kubectl -n kube-system delete daemonset kube-proxy',
      );
    return {
      ...(given('cluster.name') === undefined ? { cluster: { name } } : {}),
      ...(server ? { k8sServiceHost: server.host, k8sServicePort: server.port } : {}),
      ...(given('operator.replicas') === undefined ? { operator: { replicas: 1 } } : {}),
    };
  } finally {
    client.close();
  }
}

/** isthmus-us and kind-us are how the lab and kind call the cluster us; other contexts are no name to rely on. */
function nameFromContext(context: string): string {
  return /^(?:isthmus|kind)-([a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?)$/.exec(context)?.[1] ?? 'default';
}

/** Looks values up by their path, as --set or a file or a document gives them. */
function givenValues(values: ChartValues = {}): (path: string) => unknown {
  const documents = [values.document ?? {}, ...(values.files ?? []).map(readValues)];
  const set = new Map<string, string>();
  for (const each of values.set ?? [])
    for (const pair of each.split(/(?<!\\),(?![^{]*\})/)) {
      const [key, ...value] = pair.split('=');
      set.set(key!.trim(), value.join('='));
    }
  return path =>
    set.get(path) ?? documents.map(each => lookUp(each, path.split('.'))).find(each => each !== undefined);
}

/** `over` on top of `under`, objects key by key, as Helm merges values. */
function merge(under: ValuesDocument, over: ValuesDocument = {}): ValuesDocument {
  const merged = new Map(Object.entries(under));
  for (const [key, value] of Object.entries(over)) {
    const before = merged.get(key);
    merged.set(key, isDocument(before) && isDocument(value) ? merge(before, value) : value);
  }
  return Object.fromEntries(merged);
}

type ValuesDocument = Readonly<Record<string, unknown>>;

function isDocument(value: unknown): value is ValuesDocument {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function readValues(file: string): unknown {
  try {
    return parseYaml(readFileSync(file, 'utf8'));
  } catch (error) {
    throw new Failure(`values file ${file}: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  }
}

function lookUp(value: unknown, path: readonly string[]): unknown {
  return path.reduce<unknown>(
    (at, key) =>
      typeof at === 'object' && at !== null
        ? Object.entries(at).find(([name]) => name === key)?.[1]
        : undefined,
    value,
  );
}

function chartVersion(): string {
  const chart = z
    .object({ version: z.string() })
    .parse(parseYaml(readFileSync(`${chartFolder}/Chart.yaml`, 'utf8')));
  return chart.version;
}
