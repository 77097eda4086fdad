/* Memories of modules in the latch tree of the Linux source that this is built with. The nodes lie where Linux has
 * them: in the memories, seven beside each other in a module's descriptor. */

#include <stdint.h>
#include <stdlib.h>

#include <linux/rbtree_latch.h>

struct memory {
	uint64_t base;
	uint32_t size;
	uint32_t owner;
	struct latch_tree_node node;
};

struct module {
	/* As much as a descriptor has around its memories, so that two modules share no cache line. */
	char before[640];
	struct memory memories[7];
	char behind[192];
};

struct tree {
	struct latch_tree_root root;
	struct module *modules;
};

static struct memory *memory_of(struct latch_tree_node *node)
{
	return container_of(node, struct memory, node);
}

static __always_inline bool before(struct latch_tree_node *a, struct latch_tree_node *b)
{
	return memory_of(a)->base < memory_of(b)->base;
}

static __always_inline int compare(void *key, struct latch_tree_node *node)
{
	const struct memory *memory = memory_of(node);
	uint64_t address = (uint64_t)key;

	if (address < memory->base)
		return -1;
	return address >= memory->base + memory->size;
}

static const struct latch_tree_ops operations = { .less = before, .comp = compare };

struct tree *kernel_latch_tree_new(size_t modules)
{
	struct tree *tree = calloc(1, sizeof(*tree));

	if (tree)
		tree->modules = calloc(modules, sizeof(*tree->modules));
	return tree && tree->modules ? tree : NULL;
}

void kernel_latch_tree_free(struct tree *tree)
{
	free(tree->modules);
	free(tree);
}

void kernel_latch_tree_insert(struct tree *tree, size_t module, size_t place, uint64_t base, uint32_t size,
			      uint32_t owner)
{
	struct memory *memory = &tree->modules[module].memories[place];

	memory->base = base;
	memory->size = size;
	memory->owner = owner;
	latch_tree_insert(&memory->node, &tree->root, &operations);
}

uint32_t kernel_latch_tree_find(struct tree *tree, uint64_t address)
{
	struct latch_tree_node *node = latch_tree_find((void *)address, &tree->root, &operations);

	return node ? memory_of(node)->owner : 0;
}

/* Linux has the node at hand; here, as in modmem's interface, the first address says which it is. */
void kernel_latch_tree_remove(struct tree *tree, uint64_t base)
{
	struct latch_tree_node *node = latch_tree_find((void *)base, &tree->root, &operations);

	if (node)
		latch_tree_erase(node, &tree->root, &operations);
}
