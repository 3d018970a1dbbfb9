import * as z from 'zod';

/**
 * A fault in force, as it is written down. Endpoints of the network are clusters, nodes, or this machine
 * (`host`); `from` and `to` absent mean both directions.
 */
export const faultSpec = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('cut'),
    target: z.string(),
    from: z.string().optional(),
    to: z.string().optional(),
  }),
  z.object({ kind: z.literal('pause'), target: z.string() }),
  z.object({ kind: z.literal('kill'), target: z.string() }),
  z.object({ kind: z.literal('slow'), link: z.string(), milliseconds: z.number() }),
  z.object({ kind: z.literal('lose'), link: z.string(), percent: z.number() }),
  z.object({ kind: z.literal('rate'), link: z.string(), bitsPerSecond: z.number() }),
]);

export type FaultSpec = z.infer<typeof faultSpec>;
