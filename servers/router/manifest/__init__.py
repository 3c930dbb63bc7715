"""ProviderConfig and Budget, as users write them and as the router reads them."""
