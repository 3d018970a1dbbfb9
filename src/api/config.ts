import { isIP } from 'node:net';
import { z } from 'zod';

/**
 * Field types of the daemons' configuration: a ConfigMap, so that every value is text. Keys are named
 * as in Cilium's `cilium-config`. Keys nobody asks for are ignored.
 */

/** `true` or `false`. */
export const flag = (fallback: boolean) =>
  z
    .enum(['true', 'false'])
    .default(fallback ? 'true' : 'false')
    .transform(text => text === 'true');

export const integer = (least: number, most: number) =>
  z
    .string()
    .regex(/^\d+$/, 'expected a whole number')
    .transform(Number)
    .refine(each => each >= least && each <= most, `expected ${least} to ${most}`);

/** Words separated by blanks or commas. */
export const words = z
  .string()
  .default('')
  .transform(text => text.split(/[\s,]+/).filter(each => each !== ''));

/** `:9962` or `127.0.0.1:9962`; '' turns the listener off (undefined). */
export const listenAddress = z.string().transform((text, context) => {
  if (text === '') return undefined;
  const found = /^(?<host>.*):(?<port>\d{1,5})$/.exec(text)?.groups;
  const host = found?.host?.replace(/^\[(.*)\]$/, '$1') ?? '';
  const port = Number(found?.port);
  if (!found || port < 1 || port > 65535 || (host !== '' && isIP(host) === 0)) {
    context.addIssue({ code: 'custom', message: 'expected [address]:port' });
    return z.NEVER;
  }
  return { host: host || '0.0.0.0', port };
});

/** A cluster's name as Cilium allows it: it is part of etcd keys and of labels. */
export const clusterName = z
  .string()
  .regex(/^[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?$/, 'expected at most 32 of a-z, 0-9 and -, not - at an end');

/** Parses configuration text; throws one Error that names each bad key, what was found and what was expected. */
export function parseConfig<T>(schema: z.ZodType<T>, entries: Readonly<Record<string, string>>): T {
  const parsed = schema.safeParse(entries);
  if (parsed.success) return parsed.data;
  const lines = parsed.error.issues.map(issue => {
    const key = String(issue.path[0] ?? '');
    const found = entries[key];
    return `${key}: ${issue.message}, found ${found === undefined ? 'nothing' : JSON.stringify(found)}`;
  });
  throw new Error(`configuration: ${lines.join('; ')}`);
}
