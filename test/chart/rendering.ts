import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { parseAllDocuments } from 'yaml';
import * as z from 'zod';
import { chartFolder, readRefusal } from '../../src/cli/helm.ts';
import { ensureBinaries } from '../../src/lab/binaries.ts';

/** An object of the chart, as much of it as every object has. */
export const Rendered = z.looseObject({
  apiVersion: z.string(),
  kind: z.string(),
  metadata: z.looseObject({ name: z.string(), namespace: z.string().optional() }),
});
export type Rendered = z.infer<typeof Rendered>;

/** A cluster that can be in a mesh, reached without a service. */
export const plain: readonly string[] = ['cluster.name=us', 'cluster.id=1', 'k8sServiceHost=172.18.1.2'];

/** The same with everything switched on. */
export const meshed: readonly string[] = [
  ...plain,
  'clustermesh.useAPIServer=true',
  'clustermesh.config.enabled=true',
  'clustermesh.config.clusters[0].name=eu',
  'clustermesh.config.clusters[0].ips={172.18.2.2,172.18.2.3}',
  'clustermesh.config.clusters[0].port=32379',
  'tls.caBundle.enabled=true',
];

export async function helmPath(): Promise<string> {
  return (await ensureBinaries(['helm'], { report: line => process.stderr.write(`${line}\n`) })).helm;
}

/** What `helm template` prints with these --set. */
export async function renderText(set: readonly string[]): Promise<string> {
  const args = [
    'template',
    'isthmus',
    chartFolder,
    '--namespace',
    'kube-system',
    '--kube-version',
    'v1.34.4',
  ];
  const { stdout } = await promisify(execFile)(await helmPath(), [
    ...args,
    ...set.flatMap(each => ['--set', each]),
  ]);
  return stdout;
}

export async function render(set: readonly string[]): Promise<readonly Rendered[]> {
  return parseAllDocuments(await renderText(set))
    .map(document => document.toJS())
    .filter(object => object !== null)
    .map(object => Rendered.parse(object));
}

/** Our one-sentence reading of why Helm refuses these --set. */
export async function refusal(set: readonly string[]): Promise<string> {
  try {
    await renderText(set);
  } catch (error) {
    return readRefusal(z.object({ stderr: z.string() }).parse(error).stderr);
  }
  throw new Error(`Helm took ${set.join(' ')}`);
}

/** The object of a kind and name; throws when it is not among them. */
export function find(objects: readonly Rendered[], kind: string, name: string): Rendered {
  const found = objects.find(each => each.kind === kind && each.metadata.name === name);
  if (!found) throw new Error(`the chart renders no ${kind} ${name}`);
  return found;
}
