import * as z from 'zod';

/**
 * What an agent says about itself: GET /v1/status on its Unix socket, printed by `isthmus agent status -o json`
 * in its pod and collected over all nodes by `isthmus status`. Readers accept more fields than are here.
 */
export const AgentStatus = z.looseObject({
  version: z.string(),
  node: z.string(),
  /** What does not work now: one sentence each, naming the object, what was found and what was expected. */
  errors: z.array(z.string()).default([]),
  /** What works, but not for long or not as asked for. */
  warnings: z.array(z.string()).default([]),
  /** Pods of the node that this agent connects. */
  endpoints: z.object({ total: z.number(), ready: z.number() }).optional(),
  /** How this node's datapath was set up. */
  datapath: z
    .looseObject({
      /** Whose sockets are translated: everybody's, or only those of the node's own network namespace. */
      socketServices: z.enum(['all', 'host']),
      /** Who takes packets for pods out of the tunnel. */
      tunnelUnpack: z.enum(['program', 'device']),
      /** How programs are attached to devices; not known until they are loaded. */
      attachMode: z.enum(['tcx', 'tc']).optional(),
      /** How clients outside reach backends of other nodes, where the service does not say. */
      loadBalancerMode: z.enum(['snat', 'dsr', 'hybrid']).optional(),
    })
    .optional(),
  /** How this node sends to pods of other nodes: to how many nodes each way. */
  routing: z.object({ mode: z.string(), direct: z.number(), tunnel: z.number() }).optional(),
  /** Nodes of this cluster that others do not hear. Those that are dead get no new connections. */
  unreachableNodes: z
    .array(
      z.looseObject({
        node: z.string(),
        by: z.array(z.string()),
        dead: z.boolean(),
        /** Seconds since this agent learned it. */
        age: z.number(),
      }),
    )
    .optional(),
  /** Clusters this one is configured to connect to. */
  clusters: z
    .array(
      z.looseObject({
        name: z.string(),
        ready: z.boolean(),
        /** disconnected, connected, refused, syncing, ready, stale or dead: clustermesh/remote-status.ts says what each means. */
        state: z.string().default(''),
        status: z.string().default(''),
        /** Pod of the mirror whose copy of it is read. */
        mirror: z.string().optional(),
        /** Seconds, by the agent's own monotonic clock: since the connection was lost (0: it is there), since its last heartbeat, since it is dead. */
        disconnectedAge: z.number().optional(),
        /** The last time it could not be heard, and how long ago everything had been read anew. */
        lastOutage: z.object({ seconds: z.number(), age: z.number() }).optional(),
        heartbeatAge: z.number().optional(),
        deadAge: z.number().optional(),
        /** Nodes of this cluster that say that no node of it answers their probes. */
        unheardBy: z.array(z.string()).default([]),
        /** What is wrong without ending the connection: values refused, ranges that overlap. */
        warnings: z.array(z.string()).default([]),
      }),
    )
    .optional(),
});
export type AgentStatus = z.infer<typeof AgentStatus>;
