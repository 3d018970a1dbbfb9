import * as z from 'zod';
import { isRecord } from './bad-value.ts';

const strings = z
  .record(z.string(), z.string())
  .nullish()
  .transform(value => value ?? {});
const cidr = z.union([z.object({ IP: z.string(), Mask: z.string() }), z.string()]).nullish();

/** What is read of a node in Cilium's form. */
export const nodeSchema = z.object({
  Name: z.string(),
  Cluster: z.string(),
  IPAddresses: z.array(z.object({ Type: z.string(), IP: z.string() })).nullish(),
  IPv4AllocCIDR: cidr,
  IPv6AllocCIDR: cidr,
  IPv4SecondaryAllocCIDRs: z.array(cidr).nullish(),
  IPv6SecondaryAllocCIDRs: z.array(cidr).nullish(),
  ClusterID: z.int().default(0),
  Labels: strings,
  Annotations: strings,
});
export type NodeValue = z.infer<typeof nodeSchema>;

/** The same of a value with nothing unusual in it, in a fifth of the time; undefined: the schema has to say. */
export function plainNode(value: unknown): NodeValue | undefined {
  if (!isRecord(value)) return undefined;
  const { Name, Cluster, ClusterID, IPAddresses, IPv4AllocCIDR, IPv6AllocCIDR, Labels, Annotations } = value;
  const { IPv4SecondaryAllocCIDRs, IPv6SecondaryAllocCIDRs } = value;
  return typeof Name === 'string' &&
    typeof Cluster === 'string' &&
    Number.isSafeInteger(ClusterID) &&
    Array.isArray(IPAddresses) &&
    IPAddresses.every(isAddress) &&
    isPlainCidr(IPv4AllocCIDR) &&
    isPlainCidr(IPv6AllocCIDR) &&
    isNothing(IPv4SecondaryAllocCIDRs) &&
    isNothing(IPv6SecondaryAllocCIDRs) &&
    isTexts(Labels) &&
    isTexts(Annotations)
    ? {
        Name,
        Cluster,
        ClusterID: ClusterID as number,
        IPAddresses: IPAddresses.map(({ Type, IP }) => ({ Type, IP })),
        IPv4AllocCIDR: IPv4AllocCIDR && { IP: IPv4AllocCIDR.IP, Mask: IPv4AllocCIDR.Mask },
        IPv6AllocCIDR: IPv6AllocCIDR && { IP: IPv6AllocCIDR.IP, Mask: IPv6AllocCIDR.Mask },
        IPv4SecondaryAllocCIDRs,
        IPv6SecondaryAllocCIDRs,
        Labels: Labels ?? {},
        Annotations: Annotations ?? {},
      }
    : undefined;
}

const isNothing = (value: unknown): value is null | undefined => value === null || value === undefined;

const isAddress = (value: unknown): value is { Type: string; IP: string } =>
  isRecord(value) && typeof value.Type === 'string' && typeof value.IP === 'string';

const isPlainCidr = (value: unknown): value is { IP: string; Mask: string } | null | undefined =>
  isNothing(value) || (isRecord(value) && typeof value.IP === 'string' && typeof value.Mask === 'string');

const isTexts = (value: unknown): value is Record<string, string> | null | undefined =>
  isNothing(value) || (isRecord(value) && Object.values(value).every(each => typeof each === 'string'));
