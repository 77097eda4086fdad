/* A shared object for `_dl_find_object` to find: code, data, and nothing else. */

int tiny_data = 1;

int tiny_function(int argument)
{
	return argument + tiny_data;
}
