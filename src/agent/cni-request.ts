/** A plugin call as the agent sees it: environment and configuration, parsed and checked. Pure. */
import * as z from 'zod';
import { type PortMapping, portMappings } from './endpoint.ts';

/** Error codes of the CNI specification that we use. */
export const CniCode = {
  incompatibleVersion: 1,
  unknownContainer: 3,
  invalidEnvironment: 4,
  io: 5,
  decode: 6,
  invalidConfiguration: 7,
  tryAgainLater: 11,
  notAvailable: 50,
  /** 100 and above are a plugin's own: the pod's interface is not as it should be. */
  checkFailed: 100,
  kernel: 101,
} as const;

/** What goes to the runtime as error JSON. */
export class CniError extends Error {
  readonly code: number;
  readonly details: string;

  constructor(code: number, message: string, details = '') {
    super(message);
    this.name = 'CniError';
    this.code = code;
    this.details = details;
  }
}

export const supportedVersions = ['0.3.1', '0.4.0', '1.0.0', '1.1.0'] as const;
export type CniVersion = (typeof supportedVersions)[number];

const attachment = z.object({ containerID: z.string(), ifname: z.string() });

/** containerd writes `HostPort`, cri-o `hostPort`: Go, which the convention was made in, reads both. */
const anyCase = (list: unknown): unknown =>
  Array.isArray(list)
    ? list.map((row: unknown) =>
        typeof row === 'object' && row !== null
          ? Object.fromEntries(
              Object.entries(row).map(([key, value]) => [key.charAt(0).toLowerCase() + key.slice(1), value]),
            )
          : row,
      )
    : list;

const added = z.object({
  runtimeConfig: z
    .object({ portMappings: z.preprocess(anyCase, portMappings.nullish()) })
    .partial()
    .optional(),
});

const checked = z.object({
  prevResult: z.object({ ips: z.array(z.object({ address: z.string() })).default([]) }).nullish(),
});

const collected = z.object({
  // Go writes an empty list as null.
  'cni.dev/valid-attachments': z
    .array(attachment)
    .nullable()
    .transform(list => list ?? [])
    .optional(),
});

/** What every command needs; a DEL must not fail for anything else. */
const configuration = z.object({ cniVersion: z.enum(supportedVersions), name: z.string().min(1) });

export interface CniRequest {
  readonly command: 'ADD' | 'DEL' | 'CHECK' | 'GC' | 'STATUS';
  readonly version: CniVersion;
  readonly network: string;
  readonly containerId: string;
  readonly ifName: string;
  readonly netns: string;
  /** Kubernetes names from CNI_ARGS; empty when absent. */
  readonly namespace: string;
  readonly podName: string;
  readonly podUid: string;
  readonly portMappings: readonly PortMapping[];
  /** Addresses of the result of an earlier ADD, 'a.b.c.d/32'; undefined when none was handed over. */
  readonly previous: readonly string[] | undefined;
  /** For GC: keys of the attachments that stay. */
  readonly valid: ReadonlySet<string> | undefined;
}

const commands = ['ADD', 'DEL', 'CHECK', 'GC', 'STATUS'] as const;

/** Reads a request frame: NAME=VALUE and NUL each, an empty one, then the configuration. Throws CniError. */
export function parseRequest(payload: Buffer): CniRequest {
  const { environment, input } = split(payload);
  const command = commands.find(each => each === environment.get('CNI_COMMAND'));
  if (!command)
    throw new CniError(
      CniCode.invalidEnvironment,
      `CNI_COMMAND: found ${JSON.stringify(environment.get('CNI_COMMAND') ?? null)}, expected one of ${commands.join(', ')}`,
    );
  let content: unknown;
  try {
    content = JSON.parse(input);
  } catch (error) {
    throw new CniError(CniCode.decode, 'the configuration is not JSON', String(error));
  }
  const parsed = parse(configuration, content);
  const mappings = command === 'ADD' ? parse(added, content).runtimeConfig?.portMappings : undefined;
  const previous = command === 'CHECK' ? parse(checked, content).prevResult : undefined;
  const valid = command === 'GC' ? parse(collected, content)['cni.dev/valid-attachments'] : undefined;
  const args = keyValues(environment.get('CNI_ARGS') ?? '');
  const forPod = command === 'ADD' || command === 'CHECK' || command === 'DEL';
  return {
    command,
    version: parsed.cniVersion,
    network: parsed.name,
    containerId: forPod ? name(environment, 'CNI_CONTAINERID') : '',
    ifName: forPod ? name(environment, 'CNI_IFNAME') : '',
    netns: environment.get('CNI_NETNS') ?? '',
    namespace: args.get('K8S_POD_NAMESPACE') ?? '',
    podName: args.get('K8S_POD_NAME') ?? '',
    podUid: args.get('K8S_POD_UID') ?? '',
    portMappings: (mappings ?? []).filter(each => each.hostPort > 0),
    previous: previous?.ips.map(each => each.address),
    valid: valid && new Set(valid.map(each => `${each.containerID}/${each.ifname}`)),
  };
}

/** A frame's answer for the runtime. */
export const errorJson = (version: string, error: CniError): string =>
  `${JSON.stringify({ cniVersion: version, code: error.code, msg: error.message, details: error.details })}\n`;

/** The version to answer an unreadable request with. */
export function versionOf(payload: Buffer): string {
  return /"cniVersion"\s*:\s*"([0-9.]{1,15})"/.exec(payload.toString())?.[1] ?? '1.0.0';
}

function parse<T>(schema: z.ZodType<T>, content: unknown): T {
  const parsed = schema.safeParse(content);
  if (parsed.success) return parsed.data;
  const wrongVersion = parsed.error.issues.some(issue => issue.path[0] === 'cniVersion');
  throw new CniError(
    wrongVersion ? CniCode.incompatibleVersion : CniCode.invalidConfiguration,
    wrongVersion
      ? `cniVersion: expected one of ${supportedVersions.join(', ')}`
      : 'the configuration is not as expected',
    z.prettifyError(parsed.error),
  );
}

function split(payload: Buffer): { environment: Map<string, string>; input: string } {
  const environment = new Map<string, string>();
  for (let at = 0; ; ) {
    const end = payload.indexOf(0, at);
    if (end < 0) throw new CniError(CniCode.decode, 'the request frame has no end of its environment');
    if (end === at) return { environment, input: payload.toString('utf8', end + 1) };
    const [name, value] = pair(payload.toString('utf8', at, end));
    environment.set(name, value);
    at = end + 1;
  }
}

/** CNI_ARGS: 'IgnoreUnknown=1;K8S_POD_NAME=web'. */
const keyValues = (text: string): Map<string, string> => new Map(text.split(';').filter(Boolean).map(pair));

function pair(text: string): [string, string] {
  const at = text.indexOf('=');
  return at < 0 ? [text, ''] : [text.slice(0, at), text.slice(at + 1)];
}

/** Names end up in plan lines, aliases and file names. */
function name(environment: ReadonlyMap<string, string>, variable: string): string {
  const value = environment.get(variable) ?? '';
  if (!/^[A-Za-z0-9][A-Za-z0-9_.-]*$/.test(value) || value.length > 250)
    throw new CniError(
      CniCode.invalidEnvironment,
      `${variable}: found ${JSON.stringify(value)}, expected letters, digits, '_', '.', '-'`,
    );
  return value;
}
