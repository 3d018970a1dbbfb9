import * as z from 'zod';

/**
 * The settings all daemons share, as the ConfigMap isthmus-config has them: keys named as in Cilium's
 * cilium-config, values text. A daemon reads its own further keys with `parseSettings` and a shape of its own.
 */

/** `true` or `false`; Cilium's charts also write other spellings, which are refused by name here. */
export const flag = (fallback: boolean) =>
  z
    .enum(['true', 'false'], { error: 'expected true or false' })
    .default(fallback ? 'true' : 'false')
    .transform(value => value === 'true');

/** A whole number in a range. */
export const whole = (fallback: number, min: number, max: number) =>
  z
    .string()
    .regex(/^[0-9]+$/, `expected a whole number from ${min} to ${max}`)
    .default(String(fallback))
    .transform(Number)
    .refine(value => value >= min && value <= max, `expected a whole number from ${min} to ${max}`);

/** Words separated by spaces or commas. */
export const words = z
  .string()
  .default('')
  .transform(value => value.split(/[\s,]+/).filter(Boolean));

/** Host of a server on every address, of both families where the kernel has both: to Node, no host at all. */
export const EVERYWHERE = '';

/** `:9963` or `127.0.0.1:9234`; empty: off. */
export const listenAddress = (fallback: string) =>
  z
    .string()
    .default(fallback)
    .transform((value, context) => {
      if (value === '') return undefined;
      const match = /^(?:\[([0-9a-f:]+)\]|([^:]*)):([0-9]{1,5})$/i.exec(value);
      const port = Number(match?.[3]);
      if (match && port >= 1 && port <= 65535) return { host: match[1] || match[2] || EVERYWHERE, port };
      context.addIssue('expected host:port, :port or nothing');
      return z.NEVER;
    });

/** A duration as Go writes it: `90s`, `1m30s`, `2h`; in milliseconds. */
export const duration = (fallback: string) =>
  z
    .string()
    .default(fallback)
    .transform((value, context) => {
      const units = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 } as const;
      if (/^(\d+(\.\d+)?(ms|s|m|h))+$/.test(value))
        return [...value.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h)/g)].reduce(
          (sum, [, amount, unit]) => sum + Number(amount) * units[unit as keyof typeof units],
          0,
        );
      context.addIssue('expected a duration such as 90s or 1m30s');
      return z.NEVER;
    });

/** 1 to 32 of a-z, 0-9 and '-', beginning and ending in a letter or digit. */
export const clusterName = z
  .string()
  .regex(
    /^[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?$/,
    "expected 1 to 32 of a-z, 0-9 and '-', at the ends a letter or digit",
  );

/** Keys every daemon understands. */
export const sharedSettings = {
  'cluster-name': clusterName.default('default'),
  'cluster-id': whole(0, 0, 511),
  'max-connected-clusters': z
    .enum(['255', '511'], { error: 'expected 255 or 511' })
    .default('255')
    .transform(value => (value === '511' ? 511 : 255)),
  'clustermesh-config': z.string().default('/var/lib/cilium/clustermesh/'),
  /** Without a heartbeat for so long a remote cluster is stale. Clusters beat once a minute. */
  'clustermesh-heartbeat-timeout': duration('2m').refine(
    value => value >= 70_000,
    'expected 70s or more: clusters beat once a minute',
  ),
  'agent-not-ready-taint-key': z.string().default('node.cilium.io/agent-not-ready'),
  /** Patterns added to the default filter of identity-relevant labels. */
  labels: z.string().default(''),
  debug: flag(false),
} as const;

export type SharedSettings = z.infer<z.ZodObject<typeof sharedSettings>>;

/**
 * Reads settings by a shape of zod fields. Keys not in the shape are left alone: one ConfigMap serves all
 * daemons. Throws one error that names every bad key, its value and what was expected.
 */
export function parseSettings<Shape extends z.ZodRawShape>(
  shape: Shape,
  entries: Readonly<Record<string, string>>,
): z.infer<z.ZodObject<Shape>> {
  const parsed = z.object(shape).safeParse(entries);
  const problems = parsed.success
    ? crossChecks(entries)
    : parsed.error.issues.map(issue => {
        const key = issue.path.join('.');
        return `${key}: found ${JSON.stringify(entries[key] ?? null)}, ${issue.message}`;
      });
  if (problems.length) throw new Error(`configuration: ${problems.join('; ')}`);
  return parsed.data as z.infer<z.ZodObject<Shape>>;
}

/** What is wrong only together. */
function crossChecks(entries: Readonly<Record<string, string>>): string[] {
  const id = Number(entries['cluster-id'] ?? 0);
  const max = Number(entries['max-connected-clusters'] ?? 255);
  const name = entries['cluster-name'] ?? 'default';
  const problems: string[] = [];
  if (id > max) problems.push(`cluster-id: found "${id}", expected 0 to ${max} (max-connected-clusters)`);
  if (id !== 0 && name === 'default')
    problems.push('cluster-name: found "default", expected a name of its own, because cluster-id is not 0');
  return problems;
}
