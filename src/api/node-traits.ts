/** Label of a node: where it is. Source: Kubernetes, "Well-Known Labels, Annotations and Taints". */
export const regionLabel = 'topology.kubernetes.io/region';

/**
 * Annotation of a CiliumNode: the mode its agent works in. It travels to other clusters with the node. A node is sent
 * untunnelled packets only after it has said that it takes them, so that a cluster can change its mode node by node.
 */
export const routingAnnotation = 'node.isthmus.dev/routing-mode';
