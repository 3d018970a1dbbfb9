import { parseDocument } from 'yaml';
import * as z from 'zod';
import { Failure } from '../failure.ts';
import { describeIssue } from './config-issue.ts';

/** What kind's patches of kubeadm's configuration say of a node that is not kubeadm's alone. */
export interface KubeletSettings {
  /** Of the Node: `node-labels`. */
  readonly labels: Readonly<Record<string, string>>;
  /** Further arguments of the kubelet, without the dashes before their names. */
  readonly kubeletArgs: Readonly<Record<string, string>>;
}

const scalar = z.union([z.string(), z.number(), z.boolean()]).transform(String);

const patch = z.strictObject({
  apiVersion: z.string().startsWith('kubeadm.k8s.io/', { error: 'kubeadm.k8s.io/…' }).optional(),
  kind: z.enum(['InitConfiguration', 'JoinConfiguration']),
  nodeRegistration: z.strictObject({
    // A map in v1beta3, a list in v1beta4.
    kubeletExtraArgs: z.union([
      z.record(z.string(), scalar),
      z
        .array(z.strictObject({ name: z.string(), value: scalar }))
        .transform(list => Object.fromEntries(list.map(({ name, value }) => [name, value]))),
    ]),
  }),
});

/** Arguments that make a node the lab's. */
const ours = ['config', 'kubeconfig', 'hostname-override', 'node-ip'];

/**
 * Reads patches of which those count that kind would apply to a node of this role: InitConfiguration to the control plane,
 * JoinConfiguration to a worker. Later ones win.
 * @throws Failure naming the patch and the field that a lab, which has no kubeadm, cannot obey
 */
export function kubeletSettings(
  patches: readonly { readonly where: string; readonly text: string }[],
  role: 'control-plane' | 'worker',
): KubeletSettings {
  const labels: Record<string, string> = {};
  const kubeletArgs: Record<string, string> = {};
  for (const { where, text } of patches) {
    const { kind, nodeRegistration } = read(where, text);
    if (kind !== (role === 'control-plane' ? 'InitConfiguration' : 'JoinConfiguration')) continue;
    for (const [name, value] of Object.entries(nodeRegistration.kubeletExtraArgs)) {
      const field = `${where}.nodeRegistration.kubeletExtraArgs.${name}`;
      if (ours.includes(name)) throw new Failure(`${field}: it is the lab's to set`);
      if (name !== 'node-labels') kubeletArgs[name] = value;
      else for (const label of value.split(',')) Object.assign(labels, labelOf(field, label));
    }
  }
  return { labels, kubeletArgs };
}

function read(where: string, text: string): z.infer<typeof patch> {
  const document = parseDocument(text);
  const error = document.errors[0];
  if (error) throw new Failure(`${where}: ${error.message}`);
  const value: unknown = document.toJS();
  const parsed = patch.safeParse(value);
  if (parsed.success) return parsed.data;
  const issues = parsed.error.issues.map(issue => describeIssue(issue, value));
  throw new Failure(`${where}: ${issues.join('; ')}`, {
    hint: 'a lab has no kubeadm: of its configuration it obeys nodeRegistration.kubeletExtraArgs of InitConfiguration (control plane) and JoinConfiguration (workers)',
  });
}

function labelOf(field: string, text: string): Record<string, string> {
  const [key = '', value, ...rest] = text.trim().split('=');
  if (key === '' || value === undefined || rest.length)
    throw new Failure(`${field}: found "${text}", expected labels such as zone=a,disk=fast`);
  return { [key]: value };
}
