import * as z from 'zod';
import { isRecord } from './bad-value.ts';

/** What is read of an address in Cilium's form (its IPIdentityPair), which also names the pod. */
export const addressSchema = z.object({
  IP: z.string(),
  Mask: z.string().nullish(),
  HostIP: z
    .string()
    .nullish()
    .transform(value => value ?? ''),
  ID: z.int().min(0).default(0),
});
export type AddressValue = z.infer<typeof addressSchema>;

/** The same of a value with nothing wrong in it, in a fifth of the time; undefined: the schema has to say. */
export function plainAddress(value: unknown): AddressValue | undefined {
  if (!isRecord(value)) return undefined;
  const { IP, Mask, HostIP, ID } = value;
  const identity = ID === undefined ? 0 : ID;
  return typeof IP === 'string' &&
    isText(Mask) &&
    isText(HostIP) &&
    Number.isSafeInteger(identity) &&
    (identity as number) >= 0
    ? { IP, Mask, HostIP: HostIP ?? '', ID: identity as number }
    : undefined;
}

const isText = (value: unknown): value is string | null | undefined =>
  typeof value === 'string' || value === null || value === undefined;
